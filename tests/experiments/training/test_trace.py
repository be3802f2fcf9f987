"""`trace.jsonl` tells two runs apart, and tells when they are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from experiments.training.trace import Difference, first_difference, metrics_of_the_start, read_trace, tensors_sha256


def trace_of(store: Path) -> bytes:
    (path,) = store.glob("artifacts/*/artifacts/trace.jsonl")
    return path.read_bytes()


def stages(run: Run) -> dict[str, Any]:
    """Each stage's line; of the epochs the last."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return {line["stage"]: line for line in lines}


def test_two_processes_with_the_same_recipe_and_seed_leave_the_same_bytes(twin_store: Path, first_folder: Path) -> None:
    assert trace_of(twin_store) == (first_folder / "trace.jsonl").read_bytes()


def test_another_seed_starts_elsewhere_on_the_same_data_and_split(first_run: Run, second_run: Run) -> None:
    first, second = stages(first_run), stages(second_run)
    assert first["data"] == second["data"]
    assert first["split"] == second["split"]
    assert first["initial_weights"] != second["initial_weights"]
    assert first["epoch"]["weights"] != second["epoch"]["weights"]


def test_a_run_s_stages_come_in_order(first_folder: Path) -> None:
    lines = (first_folder / "trace.jsonl").read_text().splitlines()
    names = [json.loads(line)["stage"] for line in lines]
    assert names == ["data", "split", "initial_weights", "epoch", "epoch", "epoch"]


@pytest.mark.parametrize("name", ["train/loss", "train/accuracy", "val/loss", "val/accuracy"])
def test_traced_floats_are_the_logged_ones_exactly(
    client: MlflowClient, first_run: Run, first_folder: Path, name: str
) -> None:
    lines = [json.loads(line) for line in (first_folder / "trace.jsonl").read_text().splitlines()]
    traced = [(line["epoch"], float.fromhex(line["metrics"][name])) for line in lines if line["stage"] == "epoch"]
    logged = [(point.step, point.value) for point in client.get_metric_history(first_run.info.run_id, name)]
    assert traced == logged
    assert lines[-1]["metrics"][name].startswith("0x")


@pytest.mark.parametrize(("name", "different"), [("order", 3), ("weights", 3), ("optimizer", 3), ("random", 1)])
def test_epochs_differ_in_all_but_the_random_state_that_nothing_drew_from(
    first_folder: Path, name: str, different: int
) -> None:
    epochs = [line for line in read_trace(first_folder / "trace.jsonl") if line["stage"] == "epoch"]
    assert len({line[name] for line in epochs}) == different


def test_a_line_that_was_not_finished_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text('{"stage": "data"}\n{"stage": "spl')
    assert read_trace(tmp_path / "trace.jsonl") == [{"stage": "data"}]
    assert read_trace(tmp_path / "nothing.jsonl") == []


# Where two traces part.


def trace() -> list[dict[str, Any]]:
    epochs = [
        {
            "stage": "epoch",
            "epoch": n,
            "step": n,
            "metrics": {"val/loss": "0x1p+0", "val/accuracy": "0x0p+0"},
            "order": n,
        }
        for n in (1, 2)
    ]
    return [{"stage": "data", "sha256": "d"}, {"stage": "split", "sha256": {"train": "t", "val": "v"}}, *epochs]


def test_equal_traces_have_no_difference() -> None:
    assert first_difference(trace(), trace()) is None


def test_the_first_stage_that_differs_is_named_with_what_differs() -> None:
    now = trace()
    now[1]["sha256"]["val"] = "other"
    now[3]["order"] = 7
    assert first_difference(trace(), now) == Difference("split", None, ("sha256 val",))


def test_an_epoch_is_named_with_every_score_and_hash_that_differs() -> None:
    now = trace()
    now[3] |= {"order": 7, "metrics": {"val/loss": "0x1.8p+0", "val/accuracy": "0x0p+0"}}
    assert first_difference(trace(), now) == Difference("epoch", 2, ("metrics val/loss", "order"))


def test_an_epoch_that_is_not_reached_is_missing() -> None:
    assert first_difference(trace(), trace()[:-1]) == Difference("epoch", 2, ("missing",))


def test_only_what_is_recorded_is_compared() -> None:
    now = trace()
    now[0]["more"] = "new"
    now.append({"stage": "epoch", "epoch": 3})
    assert first_difference(trace(), now) is None


def test_metrics_that_newer_code_added_when_it_resumed_a_run_are_not_compared() -> None:
    first = {"stage": "epoch", "epoch": 1, "metrics": {"train/loss": "a", "val/loss": "b"}}
    later = {"stage": "epoch", "epoch": 2, "metrics": {"train/loss": "c", "val/loss": "d", "val/new": "e"}}
    test = {"stage": "test", "metrics": {"test/loss": "f", "test/new": "g"}}
    data = {"stage": "data", "sha256": "h"}
    expected = [
        data,
        first,
        {"stage": "epoch", "epoch": 2, "metrics": {"train/loss": "c", "val/loss": "d"}},
        {"stage": "test", "metrics": {"test/loss": "f"}},
    ]
    assert metrics_of_the_start([data, first, later, test]) == expected


# Hashes of tensors.


def test_the_same_values_have_one_hash_whatever_their_layout() -> None:
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert tensors_sha256([images]) == tensors_sha256([images.to(memory_format=torch.channels_last)])


def test_a_name_a_type_a_shape_and_a_bit_each_change_the_hash() -> None:
    states: list[Any] = [
        {"a": torch.zeros(2)},
        {"b": torch.zeros(2)},
        {"a": torch.zeros(2, dtype=torch.int32)},
        {"a": torch.zeros(2, 1)},
        {"a": torch.tensor([0.0, -0.0])},
        {"a": torch.tensor(0.0, dtype=torch.bfloat16)},
        {"a": torch.zeros(0)},
        {"a": 0.0},
    ]
    assert len({tensors_sha256(state) for state in states}) == len(states)
