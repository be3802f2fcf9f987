"""A run that was killed goes on, and ends as if it had never been.

Every run here trains in a process of its own. `WORKBENCH_KILLS=20` kills that many at random moments instead of three.
"""

import itertools
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
from experiments.epochs import Epoch
from experiments.trace import read_trace, tensors_sha256
from experiments.tracking import close_dead_runs, create_run
from lightning_modules import InputError

KILLS = int(os.environ.get("WORKBENCH_KILLS", "3"))
EPOCHS = 5

# All that a resumed run could lose counts: dropout draws from torch's state, the schedule moves every step.
RECIPE = f"""
experiment: resumed
data:
  source: digits
  augmentation: {{shift: 1}}
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


def train(job: Job, reports: Connection) -> None:
    """Runs the job in this process; reports its start and each epoch's end."""
    sys.path.insert(0, str(job.recipe.parent))
    if job.deadly is not None:
        die_instead_of(*job.deadly)

    def report(epoch: Epoch) -> None:
        reports.send(epoch.number)

    reports.send(0)
    config = load_config(str(job.recipe), job.overrides)
    run(config, name=job.name, store=job.store, resume=job.resume, observers=[report])


def die_instead_of(owner: str, function: str, call: int) -> None:
    found = pkgutil.resolve_name(owner)
    original = getattr(found, function)
    calls = itertools.count(1)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(found, function, deadly)


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
        for name in ("last.ckpt", "best.ckpt"):
            assert weights(folder / "checkpoints" / name) == weights(ours / "checkpoints" / name)
        with np.load(folder / "predictions.npz") as theirs, np.load(ours / "predictions.npz") as expected:
            assert {k: v.tobytes() for k, v in theirs.items()} == {k: v.tobytes() for k, v in expected.items()}
        assert points(store, run) == points(self.store, self.run)
        assert run.data.params == self.run.data.params
        assert len(run.inputs.dataset_inputs) == 3
        files = {path.relative_to(ours) for path in ours.rglob("*")}
        assert {path.relative_to(folder) for path in folder.rglob("*")} == files


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
        pytest.param("experiments.trace:Trace", "__call__", 1, id="before the first epoch ended"),
        pytest.param("experiments.checkpoints:Checkpoints", "__call__", 2, id="after the trace, before the checkpoint"),
        pytest.param("experiments.runner", "check_finite", 2, id="after the checkpoint, before the metrics"),
        pytest.param("experiments.runner", "_record_predictions", 2, id="in the test read"),
        pytest.param("experiments.runner", "log_model", 1, id="before the model"),
        pytest.param("experiments.tracking", "_terminate", 1, id="before the status"),
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
    killed = bench.killed("best", "experiments.checkpoints:Checkpoints", "_keep_best", rises)
    assert bench.end(bench.job("best", resume=killed.info.run_id)) == 0
    unbroken.assert_equals(bench.store, "best")
