"""`trace.jsonl` tells two runs apart, and tells when they are the same."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run


def trace_of(store: Path) -> bytes:
    (path,) = store.glob("artifacts/*/artifacts/trace.jsonl")
    return path.read_bytes()


def stages(run: Run) -> dict[str, Any]:
    """Each stage's line; of the epochs the last."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return {line["stage"]: line for line in lines}


def test_two_processes_with_the_same_recipe_and_seed_leave_the_same_bytes(
    twins: list[tuple[Path, "subprocess.CompletedProcess[str]"]], first_folder: Path
) -> None:
    assert trace_of(twins[1][0]) == (first_folder / "trace.jsonl").read_bytes()


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
    traced = [(line["step"], float.fromhex(line["metrics"][name])) for line in lines if line["stage"] == "epoch"]
    logged = [(point.step, point.value) for point in client.get_metric_history(first_run.info.run_id, name)]
    assert traced == logged
    assert lines[-1]["metrics"][name].startswith("0x")
