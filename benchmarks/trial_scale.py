"""The time that tracking and storage take per trial, after few trials and after very many. Nothing is trained."""

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from experiments import Store
from experiments.config import flatten
from experiments.tracking.lifecycle import create_run, open_run
from sweeps import load_sweep
from sweeps.progress import SweepProgress
from sweeps.strategy.budget import counts
from sweeps.study.search import Search
from sweeps.study.stage import best_first, settle


def store_after(trials: int, scratch: Path) -> Path:
    """A store with a sweep of `trials` trials. The first call makes it."""
    folder = scratch / f"store of {trials} trials"
    if not folder.exists():
        with _open(folder) as search:
            _run(search, trials)
    return folder


def ten_trials(folder: Path) -> Callable[[], float]:
    """Runs ten more trials in a copy of the store, and returns how many there are then."""
    copy = Path(tempfile.mkdtemp(dir=folder.parent)) / "store"
    shutil.copytree(folder, copy)
    opened = ExitStack()
    atexit.register(opened.close)
    search = opened.enter_context(_open(copy))
    _run(search, 1)  # the first trial of a process takes longer

    def run() -> float:
        _run(search, 10)
        return len(search.trials())

    return run


def _open(folder: Path) -> AbstractContextManager[Search]:
    overrides = {"sampler.kind": "random", "pruner.kind": "none", "budget.trials": 1_000_000}
    return Search.open(Store.open(folder), load_sweep("digits", overrides), "data")


def _run(search: Search, trials: int) -> None:
    """Everything that sweeps.run and its worker do around a trial, without the training."""
    progress = SweepProgress(search.sweep)
    for number in range(trials):
        if number and number % 200 == 0:
            print(f"… {number} trials", file=sys.stderr)
        claim = search.claim()
        assert claim is not None
        progress.started(search, claim.trial.number)
        config = search.sweep.trial_config(claim.params, claim.seed)
        run_id = create_run(search.store, experiment="digits", name=claim.name, kind="trial", tags=claim.tags)
        with open_run(search.store, run_id) as run:
            run.log_params(flatten(config.tree()))
            for epoch in range(1, 4):
                claim.trial.report(claim.seed / 2**32, step=epoch)
                run.log_metrics({"train/loss": 0.5, "val/loss": 0.5, "val/accuracy": 0.5}, epoch)
        settle(search.study, claim.trial, "finished", value=claim.seed / 2**32)
        progress.ended(search, claim.trial.number)
        trials = search.trials()  # for the sweep's own metric
        best_first(trials, search.sweep.config.objective.sign), sum(map(counts, trials))
