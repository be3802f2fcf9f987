"""What is compared: the rows of the tables, in order. Imports nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.pairs import measure_pairs
from benchmarks.processes import Result, child, python
from benchmarks.unfinished import Unfinished


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both sides of a comparison train on: `images` images in `folder`/data.npz, for `epochs` epochs."""

    folder: Path
    images: int
    epochs: int


Version = Callable[[Setting], Result]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Their seconds divided by ours: above 1, ours is faster."""

    name: str
    goal: float | None  # None: the cost is only measured
    ours: Version
    theirs: Version
    quick: bool = False  # also part of the quick mode
    decides: bool = False  # part of the mode that tells how fast training is
    threads: int | None = None  # of the training; None: nothing is trained
    trainings: int = 1  # in one measurement
    needs: str = ""  # a module beyond the project's own dependencies

    def measure(self, setting: Setting, pairs: int, kept: Unfinished | None = None) -> dict[str, Any]:
        """One row of the table."""
        row = {"name": self.name, "goal": self.goal}
        row |= measure_pairs(lambda: self.ours(setting), lambda: self.theirs(setting), pairs, kept)
        row["met"] = self.goal is None or row["ratio"] >= self.goal
        if self.threads is not None:
            from benchmarks.compute_limit import OPERATIONS_PER_IMAGE, matrix_rate

            rate = matrix_rate(self.threads)
            operations = OPERATIONS_PER_IMAGE * setting.images * setting.epochs * self.trainings
            row |= {"images": setting.images, "epochs": setting.epochs, "threads": self.threads}
            row |= {"matrix_gflops": rate / 1e9, "share_of_compute_limit": operations / row["fastest"][0] / rate}
        return row


def _training(version: str, threads: int) -> Version:
    return lambda setting: child(version, folder=setting.folder, epochs=setting.epochs, threads=threads)


def _in_store(version: str, runs: int) -> Version:
    def measure(setting: Setting) -> Result:
        from benchmarks.store_scale import store_of

        return child(version, folder=store_of(runs, setting.folder))

    return measure


def _in_sweep(trials: int) -> Version:
    def measure(setting: Setting) -> Result:
        from benchmarks.store_scale import sweep_of

        return child("compare_sweep", folder=sweep_of(trials, setting.folder))

    return measure


def _gathering(version: str) -> Version:
    def measure(setting: Setting) -> Result:
        from benchmarks.large import write_small

        if not (setting.folder / "small.npy").exists():
            write_small(setting.folder)
        return child(version, folder=setting.folder)

    return measure


def _after_trials(trials: int) -> Version:
    def measure(setting: Setting) -> Result:
        from benchmarks.trial_scale import store_after

        return child("ten_trials", folder=store_after(trials, setting.folder))

    return measure


def _trained(
    text: str, threads: int, goal: float | None, *, theirs: str, ours: str = "tracked", **rest: Any
) -> Comparison:
    return Comparison(
        name=f"{text}, {threads} thread{'s' if threads > 1 else ''}",
        goal=goal,
        ours=_training(ours, threads),
        theirs=_training(theirs, threads),
        threads=threads,
        **rest,
    )


_PYTORCH = "textbook PyTorch, no tracking"
_KERAS = "the seed's Keras code"
_OPTUNA = "textbook Optuna + Lightning, eight trials one after another (ours: two workers)"
_SWEEPS = {"theirs": "optuna", "ours": "sweep", "trainings": 9}

COMPARISONS = [
    _trained(_PYTORCH, 1, 1.9, theirs="pytorch", decides=True),
    _trained(_PYTORCH, 2, 1.6, theirs="pytorch", quick=True, decides=True),
    _trained("textbook Lightning + MLFlowLogger", 2, 2.2, theirs="lightning", decides=True),
    _trained(_KERAS, 1, 1.1, theirs="keras", needs="tensorflow", decides=True),
    _trained(_KERAS, 2, 1.5, theirs="keras", needs="tensorflow", decides=True),
    _trained(_OPTUNA, 1, 3.6, **_SWEEPS, decides=True),
    _trained(_OPTUNA, 2, 2.8, **_SWEEPS, decides=True),
    Comparison(
        name="a sweep of eight trials and two finalists, two workers against one",
        goal=1.7,
        ours=_training("sweep_by_two", 1),
        theirs=_training("sweep_by_one", 1),
        threads=1,
        trainings=10,
    ),
    _trained("tracking off", 2, 1 / 1.02, theirs="untracked", decides=True),
    _trained("bare loop over the same step", 2, 0.95, theirs="bare_loop", ours="untracked", decides=True),
    _trained("without 1,000 more metrics an epoch", 2, 1 / 1.02, theirs="tracked", ours="tracked_many_metrics"),
    _trained("without trainer.exact", 2, None, theirs="tracked", ours="tracked_exact"),
    _trained("without any augmentation (ours: with all)", 1, 1 / 1.20, theirs="tracked", ours="tracked_augmented"),
    _trained("without any augmentation (ours: with all)", 2, 1 / 1.20, theirs="tracked", ours="tracked_augmented"),
    Comparison(
        name="devices: two processes on the CPU against one, batches of 512, 1 thread each",
        goal=1 / 0.65,
        ours=_training("two_devices", 1),
        theirs=_training("tracked_large_batch", 1),
        threads=1,
        quick=True,
    ),
    Comparison(
        name="workbench --help, against python -c pass",
        goal=1 / 4,
        ours=lambda _: python("-m", "workbench", "--help"),
        theirs=lambda _: python("-c", "pass"),
        quick=True,
    ),
    # Reading comes before starting runs, because started runs stay in the store.
    Comparison(
        name="workbench runs --limit 100 in a store of 10,000 runs, against 100 runs",
        goal=1 / 1.3,
        ours=_in_store("list_runs", 10_000),
        theirs=_in_store("list_runs", 100),
    ),
    Comparison(
        name="workbench compare of 50 runs in a store of 10,000 runs, against 100 runs",
        goal=1 / 1.3,
        ours=_in_store("compare_runs", 10_000),
        theirs=_in_store("compare_runs", 100),
    ),
    Comparison(
        name="workbench compare --sweep of 300 trials, against 100 trials",
        goal=1 / 3,
        ours=_in_sweep(300),
        theirs=_in_sweep(100),
    ),
    Comparison(
        name="a short run in a store of 10,000 runs, against an empty one",
        goal=1 / 1.3,
        ours=_in_store("short_run", 10_000),
        theirs=_in_store("short_run", 0),
    ),
    Comparison(
        name="tracking and storing a trial, after 1,000 trials against after 10",
        goal=1 / 1.3,
        ours=_after_trials(1_000),
        theirs=_after_trials(10),
    ),
    Comparison(
        name="gathering batches from a .npy on disk, against from memory",
        goal=None,
        ours=_gathering("gather_on_disk"),
        theirs=_gathering("gather_in_memory"),
        quick=True,
    ),
]


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """The largest amount of memory that a process may hold, including its imports and the files that it has mapped."""

    name: str
    limit_gb: float  # of 10^9 bytes
    run: Version

    def measure(self, setting: Setting) -> dict[str, Any]:
        """One row of the table."""
        result = self.run(setting)
        peak_gb = result["peak_mb"] * 2**20 / 1e9
        row = {"name": self.name, "limit_gb": self.limit_gb, "peak_gb": peak_gb, "met": peak_gb <= self.limit_gb}
        return row | {"seconds": result["seconds"]}


def _large(setting: Setting) -> Result:
    from benchmarks.large import write_large

    write_large(setting.folder)
    try:
        return child("large", folder=setting.folder)
    finally:
        (setting.folder / "large.npy").unlink()


MEMORY_CASES = [
    MemoryCase(name="a tracked run of 200 steps over a .npy of 6 GB", limit_gb=1.5, run=_large),
    MemoryCase(
        name="a tracked run of one epoch on Fashion-MNIST",
        limit_gb=1.0,
        run=lambda setting: child("fashion_mnist", folder=setting.folder / "fashion_mnist"),
    ),
]


@dataclass(frozen=True, kw_only=True)
class ServingCase:
    """The time of `theirs`, a server of benchmarks/serving.py, divided by ours, at 32 clients."""

    name: str
    goal: float
    theirs: str

    def measure(self, setting: Setting, pairs: int) -> dict[str, Any]:
        """One row of the table."""
        from benchmarks import serving

        return serving.measure(self.name, self.goal, self.theirs, setting.folder, pairs)


SERVING_CASES = [
    ServingCase(name="workbench serve, each request alone", goal=3.0, theirs="workbench without batching"),
    ServingCase(name="stock mlflow models serve", goal=2.0, theirs="mlflow"),
]


@dataclass(frozen=True, kw_only=True)
class GpuCase:
    """The workbench compared with textbook PyTorch on one GPU, in float32.

    `way`: how the steps of an ImageClassifier in a plain Trainer are executed; or `run`, a whole tracked run.
    """

    way: Literal["single", "captured", "compiled", "run"]
    batch_size: int
    goal: float | None = None

    @property
    def name(self) -> str:
        return f"{_WAYS[self.way]}, batch {self.batch_size}"


_WAYS = {
    "single": "steps one by one",
    "captured": "captured steps",
    "compiled": "compiled and captured steps",
    "run": "whole tracked run",
}
GPU_CASES = [
    GpuCase(way="single", batch_size=32),
    GpuCase(way="captured", batch_size=32, goal=8.0),
    GpuCase(way="compiled", batch_size=32, goal=15.0),
    GpuCase(way="single", batch_size=512),
    GpuCase(way="captured", batch_size=512),
    GpuCase(way="compiled", batch_size=512),
    GpuCase(way="run", batch_size=32, goal=6.0),
]
