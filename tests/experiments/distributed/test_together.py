"""Runs on two devices: two processes on the CPU, which are real ones, and talk by gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from experiments import ExperimentConfig, RunResult, Store, TrainerConfig, load_config, run
from experiments.artifact_names import LAST_CHECKPOINT, TRACE
from experiments.errors import DeviceLost, Pruned
from experiments.tasks.prepare import prepare
from experiments.training.checkpoints import load_weights
from experiments.training.epochs import Epoch
from experiments.training.trace import read_trace
from experiments.training.trainer import make_trainer
from lightning_modules import InputError, ModelConfig
from tests.warm_python import WarmPython

Start = Callable[..., WarmPython]
Poll = Callable[..., Any]
Workbench = Callable[..., "subprocess.CompletedProcess[str]"]

EPOCHS = 8
FIELDS = {
    "trainer.max_epochs": EPOCHS,
    "trainer.threads": 1,
    "trainer.accelerator": "cpu",
    "data.batch_size": 27,  # 1,293 images: parts of 14 and 13, and a last batch of 24
    "data.augmentation.shift": 1,
    "trainer.keep_checkpoints": "all",
}
TWO = FIELDS | {"trainer.devices": 2}
WORDS = [word for name, value in TWO.items() for word in (f"--{name}", str(value))]


def digits(**more: Any) -> ExperimentConfig:
    return load_config("digits", TWO | more)


def folder_of(result: RunResult) -> Path:
    return Path(result.artifact_uri.removeprefix("file://"))


def runs_of(store: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    everywhere = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(everywhere))


def trace_of(run: Run) -> list[dict[str, Any]]:
    return read_trace(Path(run.info.artifact_uri.removeprefix("file://")) / TRACE)


def others_of(process: WarmPython) -> list[psutil.Process]:
    """The processes that a run has started to train with it."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "experiments.distributed.follow" in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def one(store: Store) -> RunResult:
    """The run on one device."""
    return run(load_config("digits", FIELDS), name="one", store=store)


@pytest.fixture(scope="module")
def two(store: Store) -> RunResult:
    """The same run on two devices."""
    return run(digits(), name="two", store=store)


@pytest.fixture
def start_training(start_workbench: Start) -> Callable[..., WarmPython]:
    """Starts the run of `two`, of very many epochs, and returns once two of them are over."""

    def start(store: Path, epochs: int = 100_000) -> WarmPython:
        words = ["train", "digits", *WORDS, "--trainer.max_epochs", str(epochs), "--store", store]
        process = start_workbench(*words)
        assert process.stderr is not None
        assert any(line.startswith("epoch 2/") for line in process.stderr), "training ended by itself"
        return process

    return start


def test_two_devices_show_the_images_of_one_in_the_same_steps(one: RunResult, two: RunResult) -> None:
    traces = [read_trace(folder_of(result) / TRACE) for result in (one, two)]
    alone, together = ([line for line in trace if line["stage"] == "epoch"] for trace in traces)
    assert traces[0][:3] == traces[1][:3]  # data, splits, initial weights
    assert [line["order"] for line in alone] == [line["order"] for line in together]
    assert [line["step"] for line in together] == [48 * (epoch + 1) for epoch in range(EPOCHS)]


def test_a_step_is_that_of_one_device_up_to_rounding(one: RunResult, two: RunResult) -> None:
    weights = [
        torch.load(folder_of(result) / LAST_CHECKPOINT, weights_only=True)["state_dict"] for result in (one, two)
    ]
    for name, alone in weights[0].items():
        torch.testing.assert_close(weights[1][name], alone, rtol=1e-3, atol=1e-4)
    for name in ("train/loss", "val/loss", "test/loss"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3)


def test_validation_is_that_of_one_process_with_the_same_weights(two: RunResult, store: Store) -> None:
    task = prepare(load_config("digits", FIELDS), None, store)
    load_weights(task.module, folder_of(two) / LAST_CHECKPOINT)
    (alone,) = make_trainer(task.config).validate(task.module, task.data, verbose=False)
    assert alone.keys() == {name for name in two.metrics if name.startswith("val/")}
    for name, score in alone.items():
        assert two.metrics[name] == pytest.approx(score, rel=1e-12), name
    with np.load(folder_of(two) / "predictions.npz") as kept:
        assert np.array_equal(kept["val_probabilities"], task.module.probabilities["val"].numpy())


def test_there_is_one_run_with_the_record_of_any_other(one: RunResult, two: RunResult, store: Store) -> None:
    found = {each.info.run_name: each for each in runs_of(store.folder) if each.info.run_name in ("one", "two")}
    alone, together = found["one"], found["two"]
    assert together.info.status == "FINISHED"
    assert together.data.params["trainer.devices"] == "2"
    assert together.data.metrics.keys() == alone.data.metrics.keys()
    names = [
        sorted(str(path.relative_to(folder_of(each))) for path in folder_of(each).rglob("*")) for each in (one, two)
    ]
    assert names[0] == names[1]
    client = MlflowClient(store.tracking_uri)
    points = client.get_metric_history(two.run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, EPOCHS + 1))


def test_the_command_line_gives_the_same_bits(two: RunResult, store: Store, workbench: Workbench) -> None:
    done = workbench("train", "digits", *WORDS, "--name", "two again", "--store", store.folder, "--json")
    assert done.returncode == 0, done.stderr
    again = MlflowClient(store.tracking_uri).get_run(json.loads(done.stdout)["run_id"])
    assert trace_of(again) == read_trace(folder_of(two) / TRACE)


def test_a_re_run_gives_the_same_bits(two: RunResult, store: Store, workbench: Workbench) -> None:
    done = workbench("reproduce", two.run_id, "--store", store.folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["verdict"] == "bitwise"


def test_a_killed_run_leaves_no_process_and_ends_as_if_it_had_not_been_killed(
    two: RunResult, start_training: Callable[..., WarmPython], tmp_path: Path, poll: Poll
) -> None:
    process = start_training(tmp_path, EPOCHS)
    others = others_of(process)
    assert len(others) == 1
    process.kill()
    process.wait()
    poll(lambda: not any(other.is_running() for other in others))
    (killed,) = runs_of(tmp_path)
    assert len(trace_of(killed)) < len(read_trace(folder_of(two) / TRACE))
    resumed = run(digits(), store=Store.open(tmp_path), resume=killed.info.run_id)
    assert read_trace(folder_of(resumed) / TRACE) == read_trace(folder_of(two) / TRACE)
    assert resumed.metrics["test/loss"] == two.metrics["test/loss"]


def test_a_process_that_dies_ends_the_run_with_its_name(
    start_training: Callable[..., WarmPython], tmp_path: Path
) -> None:
    process = start_training(tmp_path)
    (other,) = others_of(process)
    other.kill()
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "error: the process of device 1 ended too early: it was killed by SIGKILL; "
        "fix the cause, then resume the run, or start it again"
    )
    (lost,) = runs_of(tmp_path)
    assert lost.info.status == "FAILED"
    assert "ended too early" in lost.data.tags["workbench.error"]


@pytest.mark.parametrize(("signum", "is_stopped"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_ends_all_processes(
    signum: int, is_stopped: bool, start_training: Callable[..., WarmPython], tmp_path: Path, poll: Poll
) -> None:
    process = start_training(tmp_path)
    (other,) = others_of(process)
    if is_stopped:  # so the run's own process waits for it, inside a library
        other.suspend()
    process.send_signal(signum)
    process.communicate()
    assert process.returncode == 130
    assert not other.is_running()
    (interrupted,) = runs_of(tmp_path)
    assert interrupted.data.tags["workbench.outcome"] == "interrupted"


def test_a_run_that_an_observer_ends_leaves_no_process_waiting(tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        raise Pruned("enough")

    with pytest.raises(Pruned):
        run(digits(), store=Store.open(tmp_path), observers=[stop])
    assert not [child for child in psutil.Process().children() if "distributed.follow" in " ".join(child.cmdline())]
    assert not torch.distributed.is_initialized()


NORMALIZED = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))
        self(__import__("torch").zeros(2, *image_shape))
"""


def test_all_processes_validate_with_the_running_statistics_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process has two val batches, the other one."""
    (tmp_path / "normalized_net.py").write_text(NORMALIZED)
    monkeypatch.chdir(tmp_path)
    config = digits(**{"model.network": "normalized_net.Net", "data.val_fraction": 0.25, "trainer.max_epochs": 2})
    store = Store.open(tmp_path / "store")
    result = run(config, store=store)
    task = prepare(config, None, store)
    load_weights(task.module, folder_of(result) / LAST_CHECKPOINT)
    (alone,) = make_trainer(config).validate(task.module, task.data, verbose=False)
    assert {name: result.metrics[name] for name in alone} == pytest.approx(alone, rel=1e-12)
    assert [len(labels) for _, labels in task.data.val_dataloader()] == [128, 128, 104]


def test_two_processes_share_fashion_mnist(real_data: Path, tmp_path: Path) -> None:
    fields = {"data.root": str(real_data), "data.batch_size": 500, "trainer.limit_train_batches": 12}
    config = load_config("fashion_mnist", TWO | fields | {"trainer.max_epochs": 1})
    store = Store.open(tmp_path)
    result = run(config, store=store)
    (found,) = runs_of(tmp_path)
    assert found.data.metrics["progress/optimizer_steps"] == 12
    task = prepare(config, None, store)
    load_weights(task.module, folder_of(result) / LAST_CHECKPOINT)
    (alone,) = make_trainer(config).validate(task.module, task.data, verbose=False)
    assert {name: result.metrics[name] for name in alone} == pytest.approx(alone, rel=1e-12)
    with np.load(folder_of(result) / "predictions.npz") as kept:
        assert (len(kept["val_probabilities"]), len(kept["test_probabilities"])) == (6_000, 10_000)


BROKEN = """
import os
import torch
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    def forward(self, images):
        if os.environ.get("LOCAL_RANK") == "1" and torch.distributed.is_initialized():
            raise ValueError("no such luck")
        return super().forward(images)
"""


def test_the_error_of_another_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_two.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeviceLost, match="device 1 ended too early: ValueError: no such luck"):
        run(digits(**{"model.network": "net_of_two.Net"}), store=Store.open(tmp_path / "store"))


def test_code_that_was_edited_after_it_was_loaded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edited_net.py").write_text("from lightning_modules import BaselineCNN as Net\n")
    monkeypatch.chdir(tmp_path)
    config = digits(**{"model.network": "edited_net.Net"})
    (tmp_path / "edited_net.py").write_text("from lightning_modules import BaselineCNN as Net  # edited\n")
    with pytest.raises(DeviceLost, match=r"edited_net\.py was edited after the run's own process had loaded it"):
        run(config, store=Store.open(tmp_path / "store"))


def test_callbacks_that_other_processes_lack_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name it in trainer\.callbacks"):
        run(digits(), store=Store.open(tmp_path), callbacks=[pl.callbacks.LearningRateMonitor()])


def test_a_module_of_the_users_own_is_refused() -> None:
    with pytest.raises(InputError, match="a module of your own trains on one device"):
        ExperimentConfig(
            model=ModelConfig(module="pytorch_lightning.demos.boring_classes.BoringModel"),
            trainer=TrainerConfig(devices=2, monitor="val_loss", monitor_mode="min"),
        )


# Other launchers: each process is the command of a user.


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_torchrun_starts_one_run(two: RunResult, tmp_path: Path, port: int) -> None:
    Store.open(tmp_path / "store").ensure_database()
    words = [word for name, value in FIELDS.items() for word in (f"--{name}", str(value))]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command = [*launcher, "--master-port", str(port), "-m", "workbench", "train", "digits", *words]
    done = subprocess.run(
        [sys.executable, *command, "--store", str(tmp_path / "store"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = runs_of(tmp_path / "store")
    assert json.loads(done.stdout)["run_id"] == found.info.run_id  # one document: the other process prints none
    assert found.data.params["trainer.devices"] == "2"
    assert trace_of(found) == read_trace(folder_of(two) / TRACE)


def test_srun_starts_one_run(two: RunResult, tmp_path: Path, port: int) -> None:
    Store.open(tmp_path / "store").ensure_database()
    words = [word for name, value in FIELDS.items() for word in (f"--{name}", str(value))]
    given = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODELIST": "localhost"}
    given |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train"}
    command = ["-m", "workbench", "train", "digits", *words, "--store", str(tmp_path / "store")]
    tasks = [
        WarmPython(
            command,
            env=os.environ | given | {"MASTER_PORT": str(port), "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    (shown, said), (nothing, also_said) = (task.communicate() for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], said + also_said
    (found,) = runs_of(tmp_path / "store")
    assert found.info.run_id in shown
    assert nothing == ""
    assert trace_of(found) == read_trace(folder_of(two) / TRACE)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    assert not torch.distributed.is_initialized()
