"""The loop that runs trials one after another, in this process or in one of several workers."""

from collections.abc import Callable

from lightning_modules.datasets import ImageDataset
from sweeps.study.stage import Stage
from sweeps.study.trial import run_trial

OnTrial = Callable[[int], None]  # is called with a trial's number


def work(stage: Stage, *, dataset: ImageDataset | None, started: OnTrial, ended: OnTrial) -> None:
    """Runs trials until no slot is open. Raises StoreError if the store can no longer be written."""

    def run_trials() -> None:
        while claim := stage.claim():
            started(claim.number)
            run_trial(stage, claim, dataset)
            ended(claim.number)

    stage.storage.persist(run_trials)
