"""A pool of workers that runs a sweep's trials until no slot is open. Workers may be on any machine.

A worker that dies is replaced. Its trial ends with outcome `died` in MLflow and Optuna, and its slot is open again.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from lightning_modules.log import LOG
from sweeps.engines.worker import OnTrial
from sweeps.errors import SweepStoppedError
from sweeps.study.reconcile import reconcile
from sweeps.study.stage import Stage

RECONCILED_EVERY = 60.0  # seconds between two searches for dead trials
PATIENCE = 20.0  # seconds that workers have to close their runs after they were told to stop

# A trial's number; an error that stops the sweep; what was lost, if no trial caused the loss.
Event = tuple[Literal["started", "ended"], int] | tuple[Literal["broken", "lost"], str]


class Crew(ABC):
    """The workers of one engine: processes, or tasks of a cluster."""

    @abstractmethod
    def fill(self, is_wanted: bool) -> int:
        """Starts the missing workers if `is_wanted`; returns how many workers there are now."""

    @abstractmethod
    def listen(self) -> Iterator[Event]:
        """Yields new events; first waits until a worker sends one or ends, for at most `RECONCILED_EVERY` seconds."""

    @abstractmethod
    def remove_dead(self) -> int:
        """Removes the workers that have ended; returns how many of them died."""

    @abstractmethod
    def dismiss(self) -> None:
        """Tells all workers to stop, and kills those that are still running after `PATIENCE` seconds."""


def run_crew(crew: Crew, stage: Stage, *, started: OnTrial, ended: OnTrial) -> None:
    """Runs trials with the crew until no slot is open and no trial is running. Dismisses the crew, also on an error."""
    deaths = 0  # since a trial last ended
    reconciled = time.monotonic()
    try:
        while crew.fill(stage.has_open_slot()):
            has_event = is_due = False
            for event in crew.listen():
                has_event = True
                match event:
                    case "started", number:
                        started(number)
                    case "ended", number:
                        ended(number)
                        deaths = 0
                    case "lost", what:
                        LOG.info(f"{what}; its trials will run again")
                        is_due = True
                    case "broken", what:
                        raise SweepStoppedError(what)
            died = crew.remove_dead()
            deaths += died
            if died or is_due or time.monotonic() - reconciled >= RECONCILED_EVERY:
                reconcile(stage)
                reconciled = time.monotonic()
            if deaths > 3 * (stage.sweep.config.retries + 1):
                message = f"{deaths} workers died in a row: does a trial crash Python, or take too much memory?"
                raise SweepStoppedError(message)
            if not has_event and not died and not (stage.has_open_slot() or stage.is_running()):
                break  # a worker that is left hangs, and another process took over its trial
    finally:
        crew.dismiss()
