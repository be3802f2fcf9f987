"""What takes trials and runs them, one after another: this process, or one of several workers."""

from collections.abc import Callable

from lightning_modules.datasets import ImageDataset
from sweeps.study.stage import Stage
from sweeps.study.trial import run_trial

Told = Callable[[int], None]  # takes a trial's number


def work(stage: Stage, *, dataset: ImageDataset, started: Told, ended: Told) -> None:
    """Runs trials until no slot is open. Raises StoreError where the store can no longer be written."""

    def run_trials() -> None:
        while claim := stage.claim():
            started(claim.trial.number)
            run_trial(stage, claim, dataset)
            ended(claim.trial.number)

    stage.storage.persist(run_trials)
