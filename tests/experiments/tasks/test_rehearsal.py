"""What the rehearsal finds out, and that it changes nothing."""

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import RunResult, Store, load_config, run
from experiments.tasks import prepare, rehearsal
from experiments.tasks.prepare import cores
from experiments.training.trainer import make_trainer
from lightning_modules import ImageDataModule, InputError

NETWORKS = "tests.experiments.networks_as_people_write_them"
SHORT = {"trainer.max_epochs": 1, "trainer.threads": 1}


@pytest.fixture(autouse=True)
def _nothing_tried_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "_found", {})


def trace_of(result: RunResult) -> bytes:
    return (Path(result.artifact_uri.removeprefix("file://")) / "trace.jsonl").read_bytes()


def test_the_run_is_the_same_without_it_byte_for_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {
        **SHORT,
        "data.augmentation.shift": 1,
        "model.network": f"{NETWORKS}.Dropout",
    }
    first = run(load_config("digits", fields), store=store)
    monkeypatch.setattr(prepare, "rehearse", lambda *_, **__: rehearsal.Findings())
    assert trace_of(run(load_config("digits", fields), store=store)) == trace_of(first)


def test_a_last_batch_of_one_image_is_left_out_where_batch_norm_needs_more(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1,293 images of train: 19 batches of 68 and one image.
    fields = {
        **SHORT,
        "data.batch_size": 68,
        "model.network": f"{NETWORKS}.BatchNorm",
    }
    result = run(load_config("digits", fields), store=store)
    assert result.outcome == "finished"
    assert "the last training batch has one image, and batch norm needs more: it is left out" in capsys.readouterr().err
    assert b'"step": 19' in trace_of(result)
    fields["data.batch_size"] = 1
    with pytest.raises(InputError, match=r"^model\.network: layer 2 \(BatchNorm1d\) got \(1, 16\)"):
        run(load_config("digits", fields), store=store)


def test_a_network_that_gets_what_it_wants_from_the_data(store: Store) -> None:
    fields = {**SHORT, "model.network": f"{NETWORKS}.WrongChannels", "data.channels": 3}
    assert run(load_config("digits", fields), store=store).outcome == "finished"
    with pytest.raises(InputError, match=r"layer 2 \(Linear\) got \(32, 784\), wants \(…, 144\): "):
        run(load_config("digits", fields | {"data.image_size": 16}), store=store)


def test_images_of_one_class_are_refused(store: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=np.zeros((50, 8, 8), np.uint8), y=np.full(50, "cat"))
    with pytest.raises(InputError, match=r"^data\.source: all images are of one class, cat: there is nothing to learn"):
        run(load_config("arrays", {**SHORT, "data.path": str(tmp_path / "one.npz")}), store=store)


def test_the_random_state_is_put_back() -> None:
    torch.manual_seed(5)
    config = load_config("digits", {"trainer.threads": 1})
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)
        data = ImageDataModule(config.data)
        data.setup()
        rehearsal.rehearse(config, data, make_trainer(config))
        states.append((torch.rand(1), np.random.rand()))
    torch.manual_seed(5)
    np.random.seed(5)
    assert states == [(torch.rand(1), np.random.rand())] * 2


def spin() -> None:
    while True:
        pass


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """As many processes that spin as there are cores."""
    spinning = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(cores())]
    for process in spinning:
        process.start()
    yield
    for process in spinning:
        process.kill()
        process.join()


@pytest.mark.usefixtures("busy_cores")
def test_threads_that_slow_each_other_down_are_noticed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    if cores() < 2:
        pytest.skip("needs two cores")
    fields = {"trainer.max_epochs": 1, "trainer.threads": cores(), "data.batch_size": 256, "data.image_size": 24}
    said = ""
    for _ in range(5):  # now and then a few steps meet no other program
        rehearsal._found.clear()
        run(load_config("digits", fields), store=store)
        said += capsys.readouterr().err
        if "threads" in said:
            break
    assert f"{cores()} threads take " in said
    assert "--trainer.threads 1 is faster now" in said


def test_a_network_that_cannot_be_exported_is_told_before_it_is_trained(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {**SHORT, "model.network": f"{NETWORKS}.Length"}
    result = run(load_config("digits", fields), store=store, observers=[lambda epoch: print("epoch", file=sys.stderr)])
    assert result.outcome == "finished"
    before, _, after = capsys.readouterr().err.partition("epoch\n")
    assert "torch.export cannot trace the network (" in before
    assert "torch.export" not in after
    run(load_config("digits", fields), store=store, read_test=False)  # it logs no model
    assert "torch.export" not in capsys.readouterr().err


def test_a_metric_that_fails_is_named(store: Store) -> None:
    metric = {"kind": "torchmetrics.F1Score", "args": {"average": "none"}}
    fields: dict[str, Any] = {**SHORT, "trainer.metrics": [metric]}
    with pytest.raises(InputError, match=r"^trainer\.metrics\[0\]\.kind: gives \(10,\) values, not one"):
        run(load_config("digits", fields), store=store)
