"""Several who run a sweep's trials at once, on whatever machines they are, kept at work until no slot is open.

One that dies, of whatever cause, is replaced; its trial ends as died in both stores, and its slot is open again.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

from lightning_modules.log import LOG
from sweeps.engines.worker import Told
from sweeps.errors import SweepStoppedError
from sweeps.study.reconcile import reconcile
from sweeps.study.stage import Stage

RECONCILED_EVERY = 60.0  # seconds
PATIENCE = 20.0  # seconds that trials have to close their runs once they are told to end

# A trial's number; what is broken, so that the sweep cannot go on; what was lost through no trial's doing.
Event = tuple[Literal["started", "ended"], int] | tuple[Literal["broken", "lost"], str]


class Crew(ABC):
    """Those who run trials."""

    @abstractmethod
    def fill(self, is_wanted: bool) -> int:
        """Starts those who are missing, where there is work; how many there are now."""

    @abstractmethod
    def listen(self) -> Iterator[Event]:
        """What they have told since; waits until one tells something or ends, or `RECONCILED_EVERY` has gone by."""

    @abstractmethod
    def remove_dead(self) -> int:
        """Lets go of those who have ended; how many of them died."""

    @abstractmethod
    def dismiss(self) -> None:
        """Ends all: they are told to, and killed where they do not within `PATIENCE`."""


def lead(crew: Crew, stage: Stage, *, started: Told, ended: Told) -> None:
    """Has the crew run trials until no slot is open and none of them is at work; then, or on an error, dismisses it."""
    deaths = 0  # since the last trial that came to an end
    reconciled = time.monotonic()
    try:
        while crew.fill(stage.has_open_slot()):
            told = is_due = False
            for event in crew.listen():
                told = True
                match event:
                    case "started", number:
                        started(number)
                    case "ended", number:
                        ended(number)
                        deaths = 0
                    case "lost", what:
                        LOG.info(f"{what}; its trials are tried again")
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
            if not told and not died and not (stage.has_open_slot() or stage.is_running()):
                break  # who is left hangs, and has lost its trial to another
    finally:
        crew.dismiss()
