"""A killed run is resumed, and ends as if it had never been killed.

Every run here trains in a process of its own. `WORKBENCH_KILLS=20` kills that many at random moments instead of three.
"""

import itertools
import json
import os
import pkgutil
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.entities import Run

import workbench as command_line
from experiments import Store, load_config, run
from experiments.tracking.lifecycle import close_dead_runs, create_run
from experiments.training.epochs import Epoch
from experiments.training.trace import read_trace, tensors_sha256
from lightning_modules import InputError

KILLS = int(os.environ.get("WORKBENCH_KILLS", "3"))
EPOCHS = 5

# All that a resumed run could lose counts: dropout draws from torch's state, the schedule moves every step.
RECIPE = f"""
experiment: resumed
data:
  source: digits
  augmentation: {{shift: 1, horizontal_flip: true, rotation: 10, erasing: 0.5, noise: 1}}
  sampling: balanced
model:
  network: network_with_dropout.Net
  network_args: {{rate: 0.3}}
optimizer:
  lr: 0.01
  schedule: {{kind: cosine}}
trainer:
  max_epochs: {EPOCHS}
  weights: best
  threads: 1
"""
NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes, rate=0.5):
        super().__init__(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, num_classes))
"""


# What the processes do.


@dataclass(frozen=True, kw_only=True)
class Job:
    """One start of a training process."""

    name: str  # of the run
    store: Store
    recipe: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    resume: str | None = None
    deadly: tuple[str, str, int] | None = None  # owner, function, call: SIGKILL instead of the function's nth call
    failing: tuple[str, str, int] | None = None  # the same, with an error


def train(job: Job, reports: Connection) -> None:
    """Runs the job in this process; reports its start and each epoch's end."""
    sys.path.insert(0, str(job.recipe.parent))
    if job.deadly is not None:
        replace_call(*job.deadly, lambda: os.kill(os.getpid(), signal.SIGKILL))
    if job.failing is not None:
        replace_call(*job.failing, fail)

    def report(epoch: Epoch) -> None:
        reports.send(epoch.number)

    reports.send(0)
    config = load_config(str(job.recipe), job.overrides)
    run(config, name=job.name, store=job.store, resume=job.resume, observers=[report])


def replace_call(owner: str, function: str, call: int, by: Callable[[], object]) -> None:
    """Does something else instead of a function's nth call."""
    found = pkgutil.resolve_name(owner)
    original = getattr(found, function)
    calls = itertools.count(1)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return by() if next(calls) == call else original(*args, **kwargs)

    setattr(found, function, replaced)


def fail() -> None:
    raise OSError("the disk is full")


# How the tests start them, and what is left.


@dataclass(frozen=True)
class Bench:
    """Where the jobs of these tests happen."""

    store: Store
    recipe: Path
    forks: ForkServerContext

    def job(self, name: str, **options: Any) -> Job:
        return Job(name=name, **({"store": self.store, "recipe": self.recipe} | options))

    def start(self, job: Job) -> tuple[BaseProcess, Connection]:
        ours, theirs = self.forks.Pipe(duplex=False)
        process = self.forks.Process(target=train, args=(job, theirs))
        process.start()
        theirs.close()
        return process, ours

    def end(self, job: Job) -> int | None:
        """Lets the job's process end; its exit code, negative where a signal ended it."""
        process, _reports = self.start(job)
        process.join()
        return process.exitcode

    def killed(self, name: str, owner: str, function: str, call: int, **options: Any) -> Run:
        """The run of a process that was killed instead of this call."""
        assert self.end(self.job(name, deadly=(owner, function, call), **options)) == -signal.SIGKILL
        return the_run(options.get("store", self.store), name)


def runs_of(store: Store, name: str) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return list(store.client.search_runs(experiments, f"attributes.run_name = '{name}'"))


def the_run(store: Store, name: str) -> Run:
    """The one run of this name."""
    (found,) = runs_of(store, name)
    return found


def folder_of(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def points(store: Store, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Every metric point that must not depend on when; of throughput the steps alone."""
    found = {}
    for name in run.data.metrics:
        if not name.startswith("system/"):
            history = store.client.get_metric_history(run.info.run_id, name)
            values = [0.0 if name.startswith("throughput/") else point.value for point in history]
            found[name] = sorted(zip((point.step for point in history), values, strict=True))
    return found


def weights(checkpoint: Path) -> str:
    return tensors_sha256(torch.load(checkpoint, weights_only=True)["state_dict"])


@dataclass(frozen=True)
class Unbroken:
    """The run that was never stopped."""

    store: Store
    run: Run
    durations: Sequence[float]  # seconds: until the first epoch's end, of each epoch after, of all after the last

    def assert_equals(self, store: Store, name: str, folder: Path | None = None) -> None:
        """The one run of this name in `store` is this one bit by bit; `folder` holds its artifacts."""
        run = the_run(store, name)
        folder, ours = folder or folder_of(run), folder_of(self.run)
        assert (run.info.status, run.data.tags["workbench.outcome"]) == ("FINISHED", "finished")
        assert "workbench.error" not in run.data.tags
        assert (folder / "trace.jsonl").read_bytes() == (ours / "trace.jsonl").read_bytes()
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]
        assert weights(folder / "checkpoints" / "best.ckpt") == weights(ours / "checkpoints" / "best.ckpt")
        with np.load(folder / "predictions.npz") as theirs, np.load(ours / "predictions.npz") as expected:
            assert {k: v.tobytes() for k, v in theirs.items()} == {k: v.tobytes() for k, v in expected.items()}
        assert points(store, run) == points(self.store, self.run)
        assert run.data.params == self.run.data.params
        assert len(run.inputs.dataset_inputs) == 3
        files = {path.relative_to(ours) for path in ours.rglob("*")}
        assert {path.relative_to(folder) for path in folder.rglob("*")} - {Path("code.bundle")} == files


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext) -> Bench:
    folder = tmp_path_factory.mktemp("resume")
    (folder / "network_with_dropout.py").write_text(NETWORK)
    (folder / "recipe.yaml").write_text(RECIPE)
    store = Store.open(folder / "store")
    store.ensure_database()
    return Bench(store, folder / "recipe.yaml", forks)


@pytest.fixture(scope="module")
def unbroken(bench: Bench) -> Unbroken:
    process, reports = bench.start(bench.job("unbroken"))
    times = []
    for _ in range(EPOCHS + 1):
        reports.recv()
        times.append(time.perf_counter())
    process.join()
    times.append(time.perf_counter())
    assert process.exitcode == 0
    durations = [after - before for before, after in itertools.pairwise(times)]
    return Unbroken(bench.store, the_run(bench.store, "unbroken"), durations)


def test_the_unbroken_run_has_what_a_resumed_one_could_lose(unbroken: Unbroken) -> None:
    epochs = read_trace(folder_of(unbroken.run) / "trace.jsonl")[3:]
    for name in ("order", "weights", "optimizer", "random"):
        assert len({line[name] for line in epochs}) == EPOCHS


# Killed, and gone on with.


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_run_killed_at_a_random_moment_ends_as_if_it_had_not_been(
    seed: int, bench: Bench, unbroken: Unbroken
) -> None:
    name, chance = f"random {seed}", random.Random(seed)
    stage = chance.randrange(len(unbroken.durations))
    process, reports = bench.start(bench.job(name))
    for _ in range(stage + 1):
        reports.recv()
    process.join(chance.random() * unbroken.durations[stage])
    process.kill()
    process.join()
    left = [run.info.run_id for run in runs_of(bench.store, name)]  # none where it was killed before it made one
    assert bench.end(bench.job(name, resume=left[0] if left else None)) == 0
    unbroken.assert_equals(bench.store, name)


@pytest.mark.parametrize(
    ("owner", "function", "call"),
    [
        pytest.param("experiments.training.trace:Trace", "__call__", 1, id="before the first epoch ended"),
        pytest.param(
            "experiments.training.checkpoints:Checkpoints", "__call__", 2, id="after the trace, before the checkpoint"
        ),
        pytest.param("experiments.runner", "check_finite", 2, id="after the checkpoint, before the metrics"),
        pytest.param("experiments.results.predictions", "record", 2, id="in the test read"),
        pytest.param("experiments.tasks.classification", "log_model", 1, id="before the model"),
        pytest.param("experiments.tracking.tracked_run", "end_of_run", 1, id="before the status"),
    ],
)
def test_a_run_killed_at_a_bad_moment_ends_as_if_it_had_not_been(
    owner: str, function: str, call: int, bench: Bench, unbroken: Unbroken
) -> None:
    name = f"{function} {call}"
    killed = bench.killed(name, owner, function, call)
    assert bench.end(bench.job(name, resume=killed.info.run_id)) == 0
    unbroken.assert_equals(bench.store, name)


def test_a_run_killed_before_the_best_weights_were_kept_keeps_them(bench: Bench, unbroken: Unbroken) -> None:
    scores = [score for _, score in points(bench.store, unbroken.run)["val/accuracy"]]
    rises = sum(score > max(scores[:epoch], default=0.0) for epoch, score in enumerate(scores))
    killed = bench.killed("best", "experiments.training.checkpoints:Checkpoints", "_keep_best", rises)
    assert bench.end(bench.job("best", resume=killed.info.run_id)) == 0
    unbroken.assert_equals(bench.store, "best")


def test_a_run_interrupted_by_ctrl_c_is_resumed_from_the_command_line(
    bench: Bench, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(bench.recipe.parent)
    process, reports = bench.start(bench.job("interrupted"))
    while reports.recv() < 2:
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    interrupted = the_run(bench.store, "interrupted")
    assert (interrupted.info.status, interrupted.data.tags["workbench.outcome"]) == ("KILLED", "interrupted")
    words = ["train", str(bench.recipe), "--resume", "interrupted", "--store", str(bench.store.folder), "--json"]
    assert command_line.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["run_id"], printed["outcome"]) == (interrupted.info.run_id, "finished")
    unbroken.assert_equals(bench.store, "interrupted")


# A remote store.


def test_a_failed_run_on_a_server_resumes_on_another_machine(
    bench: Bench, unbroken: Unbroken, tracking_server: str, tmp_path: Path
) -> None:
    (tmp_path / "sent").mkdir()
    here, there = (Store(tmp_path / name, tracking_server) for name in ("here", "there"))
    failed = ("experiments.runner", "check_finite", 2)
    assert bench.end(bench.job("moved", store=here, failing=failed)) == 1
    run_id = the_run(here, "moved").info.run_id
    assert not list((here.folder / "spool").iterdir())
    assert bench.end(bench.job("moved", store=there, resume=run_id)) == 0
    unbroken.assert_equals(there, "moved", Path(here.client.download_artifacts(run_id, "", str(tmp_path / "sent"))))


def test_a_killed_run_on_a_server_goes_on_from_files_not_yet_sent(
    bench: Bench, unbroken: Unbroken, tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(bench.recipe.parent)
    (tmp_path / "sent").mkdir()
    store = Store(tmp_path / "store", tracking_server)
    killed = bench.killed("unsent", "experiments.runner", "check_finite", 2, store=store)
    assert not store.client.list_artifacts(killed.info.run_id)
    with pytest.raises(InputError, match="seed: the run started with 0"):
        run(load_config(str(bench.recipe), {"seed": 1}), store=store, resume=killed.info.run_id)
    assert bench.end(bench.job("unsent", store=store, resume=killed.info.run_id)) == 0
    sent = Path(store.client.download_artifacts(killed.info.run_id, "", str(tmp_path / "sent")))
    unbroken.assert_equals(store, "unsent", sent)


# Refused.


def state_of(store: Store, run_id: str) -> tuple[str, dict[Path, bytes]]:
    """All that the store holds of a run, as text (in which NaN equals itself), and the SHA-256 of its files."""
    run = store.client.get_run(run_id)
    files = {path: sha256(path.read_bytes()).digest() for path in folder_of(run).rglob("*") if path.is_file()}
    return repr(run.to_dictionary()), files


@pytest.fixture
def refused(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `workbench train … --resume RUN`, which must exit 2 and leave the run as it is; the line it printed."""
    monkeypatch.syspath_prepend(bench.recipe.parent)

    def refused(run_id: str, *overrides: str, recipe: Path = bench.recipe) -> str:
        before = state_of(bench.store, run_id)
        words = ["train", str(recipe), "--resume", run_id, "--store", str(bench.store.folder), *overrides]
        assert command_line.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert state_of(bench.store, run_id) == before
        return line

    return refused


@pytest.fixture(scope="module")
def killed(bench: Bench) -> str:
    """The id of a run that was killed after its second epoch, and found dead."""
    run_id = bench.killed("killed", "experiments.runner", "check_finite", 2).info.run_id
    close_dead_runs(bench.store)
    return str(run_id)


def test_a_finished_run_is_refused(unbroken: Unbroken, refused: Callable[..., str]) -> None:
    assert "has finished" in refused(unbroken.run.info.run_id)


@pytest.mark.parametrize(
    ("kind", "words"), [("train", ["is still running", f"process {os.getpid()} on"]), ("trial", ["is a trial"])]
)
def test_a_run_that_runs_and_a_sweep_s_trial_are_refused(
    kind: Any, words: list[str], bench: Bench, refused: Callable[..., str]
) -> None:
    line = refused(create_run(bench.store, experiment="resumed", name="other", kind=kind))
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--optimizer.lr=0.02", ["optimizer.lr", "started with 0.01", "got 0.02", "give --optimizer.lr 0.01"]),
        ("--data.augmentation.shift=0", ["data.augmentation.shift", "give --data.augmentation.shift 1"]),
        (
            "--model.network_args={}",
            ["model.network_args.rate", "started with 0.3", "give --model.network_args.rate 0.3"],
        ),
        ("--optimizer.beta1=0.8", ["optimizer.beta1", "got 0.8", "give --optimizer.beta1 null"]),
    ],
)
def test_another_configuration_is_refused(
    override: str, words: list[str], killed: str, refused: Callable[..., str]
) -> None:
    line = refused(killed, override)
    assert [word for word in words if word not in line] == []


def test_an_argument_that_the_network_did_not_have_is_refused(bench: Bench, refused: Callable[..., str]) -> None:
    bare = bench.recipe.with_stem("bare")
    bare.write_text(bench.recipe.read_text().replace("network_args: {rate: 0.3}", "network_args: {}"))
    run_id = bench.killed("bare", "experiments.runner", "check_finite", 1, recipe=bare).info.run_id
    close_dead_runs(bench.store)
    words, line = ("model.network_args.rate", "started without it", "leave it out"), refused(run_id)
    assert [word for word in words if word not in line] == []


def test_a_run_whose_loss_became_nan_is_refused(bench: Bench, refused: Callable[..., str]) -> None:
    words = {"optimizer.kind": "sgd", "optimizer.lr": 1e30}
    assert bench.end(bench.job("diverged", overrides=words)) == 0
    line = refused(the_run(bench.store, "diverged").info.run_id, "--optimizer.kind=sgd", "--optimizer.lr=1e30")
    assert [word for word in ("since epoch 1", "a lower optimizer.lr") if word not in line] == []


def test_an_unknown_run_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--resume", "nosuchrun", "--store", str(bench.store.folder)]
    assert command_line.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such run" in line


@pytest.mark.parametrize(
    "moment", [("experiments.training.trace:Trace", 1), ("experiments.training.checkpoints:Checkpoints", 2)]
)
def test_other_data_under_the_path_are_refused_and_the_same_elsewhere_are_not(
    moment: tuple[str, int], bench: Bench, refused: Callable[..., str], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x=images, y=np.arange(60) % 3)
    recipe, name = tmp_path / "own.yaml", f"own data {moment[1]}"
    recipe.write_text(f"data: {{source: arrays, path: {tmp_path}/own.npz}}\ntrainer: {{max_epochs: 2, threads: 1}}")
    run_id = bench.killed(name, moment[0], "__call__", moment[1], recipe=recipe).info.run_id
    close_dead_runs(bench.store)
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    images[7, 0, 0] ^= 1
    np.savez(tmp_path / "own.npz", x=images, y=np.arange(60) % 3)
    assert "the data changed since the run started" in refused(run_id, recipe=recipe)
    moved = {"data.path": str(tmp_path / "moved.npz")}
    assert bench.end(bench.job(name, recipe=recipe, overrides=moved, resume=run_id)) == 0
    resumed = the_run(bench.store, name)
    assert resumed.info.status == "FINISHED"
    assert len(read_trace(folder_of(resumed) / "trace.jsonl")) == 3 + 2
    assert len(resumed.inputs.dataset_inputs) == 3
