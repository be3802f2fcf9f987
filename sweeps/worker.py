"""What takes trials and runs them, one after another: this process, or one of several workers."""

from collections.abc import Callable

import optuna

from experiments.store import Store
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.study import claim
from sweeps.trial import run_trial

Told = Callable[[int], None]  # takes a trial's number


def work(
    store: Store,
    study: optuna.Study,
    sweep: Sweep,
    *,
    parent: str,
    dataset: ImageDataset,
    started: Told,
    ended: Told,
) -> None:
    """Runs trials until no slot is open."""
    while taken := claim(store, study, sweep):
        started(taken.trial.number)
        run_trial(store, study, sweep, taken, parent=parent, dataset=dataset)
        ended(taken.trial.number)
