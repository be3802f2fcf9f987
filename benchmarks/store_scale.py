"""How long a store with very many runs takes to start a run, to list runs, and to compare them."""

import shutil
import sys
from pathlib import Path

import sweeps
from benchmarks import workbench_versions
from experiments import Store, load_config
from experiments.comparison.compare import compare
from experiments.config import flatten
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import list_runs as newest_runs
from experiments.tracking.runs import resolve
from sweeps import load_sweep

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy", "value")


def store_of(runs: int, scratch: Path) -> Path:
    """A store with `runs` ended runs, named `run 0`, `run 1` and so on; each has the params of a run on digits.

    The first call makes it.
    """
    folder = scratch / f"store of {runs} runs"
    if folder.exists():
        return folder
    from mlflow.entities import Metric, Param  # after `experiments`, which configures MLflow

    store = Store.open(folder)
    experiment = store.experiment_id("digits")
    params = [Param(name, str(value)) for name, value in flatten(load_config("digits").tree()).items()]
    tags = {"workbench.kind": "train", "workbench.outcome": "finished"}
    for number in range(runs):
        if number % 1000 == 0:
            print(f"… {folder.name}: {number}", file=sys.stderr)
        run_id = store.client.create_run(experiment, run_name=f"run {number}", tags=tags).info.run_id
        metrics = [Metric(name, number / runs, 0, 1) for name in METRICS]
        store.client.log_batch(run_id, metrics=metrics, params=params)
        store.client.set_terminated(run_id)
    return folder


def sweep_of(trials: int, scratch: Path) -> Path:
    """A store with a sweep of `trials` trials on digits: copies of one trial with other learning rates."""
    folder = scratch / f"sweep of {trials} trials"
    if folder.exists():
        return folder
    store = Store.open(folder)
    sweep = load_sweep("digits", {"budget.trials": 1, "trainer.max_epochs": 1})
    sweeps.run(sweep, store=store)
    (trial,) = newest_runs(store, sweep=sweep.name, kind="trial")
    model = store.client.get_run(trial.run_id)
    own = {"workbench.owner", "mlflow.runName"}
    tags = {name: value for name, value in model.data.tags.items() if name not in own}
    for number in range(1, trials):
        name = f"trial {number}"
        run_id = create_run(store, experiment=sweep.base.experiment, name=name, kind="trial", tags=tags)
        with open_run(store, run_id) as run:
            shutil.copytree(store.files_folder(model.info), run.folder, dirs_exist_ok=True)
            run.log_params(trial.params | {"optimizer.lr": number / trials})
            run.log_metrics(trial.metrics, 1)
    return folder


def compare_sweep(folder: Path) -> int:
    """Reads what `workbench compare --sweep digits` reads."""
    store = Store.open(folder)
    return len(compare(store, newest_runs(store, sweep="digits"))["runs"])


def short_run(folder: Path) -> float:
    """One epoch on digits, in one thread; the accuracy on test."""
    config = load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1, "trainer.accelerator": "cpu"})
    return workbench_versions.tracked(config, folder)


def fashion_mnist(folder: Path) -> float:
    """One epoch on Fashion-MNIST; the accuracy on test."""
    config = load_config("fashion_mnist", {"trainer.max_epochs": 1, "trainer.threads": 2, "trainer.accelerator": "cpu"})
    return workbench_versions.tracked(config, folder)


def list_runs(folder: Path) -> int:
    """Reads what `workbench runs --limit 100` reads."""
    return len(newest_runs(Store.open(folder), limit=100))


def compare_runs(folder: Path) -> int:
    """Reads what `workbench compare` reads for 50 runs, each given by its name."""
    store = Store.open(folder)
    runs = [run for number in range(50) for run in resolve(store, f"run {number}")]
    return len(compare(store, runs)["runs"])
