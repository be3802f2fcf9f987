"""The errors of a run, and the exceptions that end one."""

from pathlib import Path

from lightning_modules.errors import WorkbenchError


class StoreError(WorkbenchError, RuntimeError):
    """The store can no longer be read or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        remedy = "fix that, and give the same command again: a sweep continues where it was"
        super().__init__(f"{folder} failed: {reason}", remedy, "--store", str(folder))


class CannotRun(WorkbenchError):
    """A recorded run cannot be run again: its record, its code or its packages are missing, or not safe."""


class OutOfMemoryError(WorkbenchError, RuntimeError):
    """The machine or the GPU lacks the memory that training asked for."""


class StopRun(Exception):
    """Raised by an observer to end training after this epoch; the run ends with it once the epoch is logged."""


class NonFiniteLossError(StopRun):
    """Training diverged: a loss is NaN or infinite."""


class Pruned(StopRun):
    """Ends a run as pruned: its trial is not worth more epochs."""


class TakenOver(StopRun):
    """Ends a run that others took for dead: it stays died, and its work is done again elsewhere."""


class Interrupted(BaseException):
    """The user, or the system, asked the process to stop."""
