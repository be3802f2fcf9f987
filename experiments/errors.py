"""The errors that a run can raise, and the exceptions that end a run early."""

from pathlib import Path

from lightning_modules.errors import WorkbenchError


class StoreError(WorkbenchError, RuntimeError):
    """The store can no longer be read or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        remedy = "fix the cause, then run the same command again; a sweep continues where it stopped"
        super().__init__(f"{folder} failed: {reason}", remedy, "--store", str(folder))


class CannotRun(WorkbenchError):
    """A recorded run cannot be rerun: its record, its code or its packages are missing or unsafe."""


class Altered(WorkbenchError):
    """Something in a run's record is not what the run wrote."""


class ExportDiffers(WorkbenchError):
    """An exported file does not answer as the original model does, or cannot be used without the project."""


class OutOfMemoryError(WorkbenchError, RuntimeError):
    """Training needs more memory than the machine or the GPU has."""


class DeviceLost(WorkbenchError, RuntimeError):
    """A process that trained the run on one of several devices has ended too early."""


class StopRun(Exception):
    """An observer raises this to end training after the current epoch. The run ends once that epoch is logged."""


class NonFiniteLossError(StopRun):
    """Training diverged: a loss is NaN or infinite."""


class Pruned(StopRun):
    """Ends a run with outcome `pruned`: its trial does not deserve more epochs."""


class TakenOver(WorkbenchError, StopRun):
    """Ends a run that another process has marked as died, or goes on with. This process writes no more to it."""


class Interrupted(BaseException):
    """The user or the operating system asked the process to stop."""
