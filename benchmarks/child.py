"""Runs one version of the job in a process of its own, and prints its time and memory as one line of JSON."""

import argparse
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

WITH_LIGHTNING = ("lightning", "optuna")
SWEEPS = ("sweep", "sweep_by_one", "sweep_by_two")
TRACKED = (
    "tracked",
    "tracked_many_metrics",
    "tracked_exact",
    "tracked_augmented",
    "tracked_large_batch",
    "two_devices",
)
WORKBENCH = (*TRACKED, "untracked", "bare_loop", *SWEEPS)
# Their `folder` is the store.
IN_A_STORE = ("short_run", "list_runs", "compare_runs", "compare_sweep", "ten_trials", "fashion_mnist")
LARGE = ("large", "gather_on_disk", "gather_in_memory")  # `folder` contains what benchmarks/large.py writes

Job = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("version", choices=("pytorch", "keras", *WITH_LIGHTNING, *WORKBENCH, *IN_A_STORE, *LARGE))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        job = prepare(args)
        start = time.perf_counter()
        answer = job()
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "answer": answer, "peak_mb": peak_mb()}))


def prepare(args: argparse.Namespace) -> Job:
    """Imports what the version needs, and returns its job: everything from reading the data to the last artifact.

    A job returns the accuracy on test, or how many runs it read.
    """
    if args.version == "keras":
        return _keras(args)
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.version == "pytorch":
        return _pytorch(args)
    if args.version in WITH_LIGHTNING:
        return _lightning(args)
    if args.version in IN_A_STORE:
        return _in_a_store(args)
    if args.version in LARGE:
        return _large(args)
    return _workbench(args)


def _keras(args: argparse.Namespace) -> Job:
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(args.threads)
    import tensorflow

    from benchmarks import data, textbook_keras

    tensorflow.keras.utils.set_random_seed(args.seed)
    return lambda: textbook_keras.train(data.standardized(args.folder), args.epochs)


def _pytorch(args: argparse.Namespace) -> Job:
    from benchmarks import data, textbook_pytorch

    return lambda: textbook_pytorch.train(data.tensors(args.folder), args.epochs)


def _lightning(args: argparse.Namespace) -> Job:
    from benchmarks import data
    from benchmarks.textbook_lightning import train

    if args.version == "optuna":
        from benchmarks.textbook_optuna import search as train
    _import_mlflow_store()
    return lambda: train(data.tensors(args.folder), args.epochs, args.folder)


def _workbench(args: argparse.Namespace) -> Job:
    from benchmarks import data, workbench_versions
    from experiments import load_config

    version = getattr(workbench_versions, args.version, None)
    if args.version in SWEEPS:
        from benchmarks import workbench_sweep

        version = getattr(workbench_sweep, args.version)
        workbench_sweep.import_for_workers()
    _import_mlflow_store()
    for name in ("torch.export._trace", "matplotlib.pyplot", "optuna.visualization.matplotlib"):
        import_module(name)  # what a run imports to export its model, and a sweep for its report
    config = load_config(
        "fashion_mnist",
        {
            "seed": args.seed,
            "trainer.max_epochs": args.epochs,
            "trainer.threads": args.threads,
            "trainer.accelerator": "cpu",
            "data.source": "arrays",
            "data.path": str(args.folder / data.FILE),
        },
    )
    return lambda: version(config, args.folder / "store")


def _in_a_store(args: argparse.Namespace) -> Job:
    from benchmarks import store_scale, trial_scale

    _import_mlflow_store()
    if args.version == "ten_trials":
        return trial_scale.ten_trials(args.folder)
    version = getattr(store_scale, args.version)
    return lambda: version(args.folder)


def _large(args: argparse.Namespace) -> Job:
    from benchmarks import large

    if args.version == "large":
        _import_mlflow_store()
        return lambda: large.large(args.folder)
    return large.gather(args.folder, 0 if args.version == "gather_on_disk" else 1000)


def _import_mlflow_store() -> None:
    """Imports what MLflow imports only when a store is opened. `experiments` must come first: it configures MLflow."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def peak_mb() -> float:
    """The largest amount of memory that this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux includes the parent's earlier memory in ru_maxrss
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
