"""The errors that a sweep or a copy of a store can raise."""

from experiments.errors import Pruned
from lightning_modules.errors import WorkbenchError


class SweepStoppedError(WorkbenchError, RuntimeError):
    """The sweep cannot continue now. Running the same command again resumes it."""


class LimitBroken(Pruned):
    """Ends a trial that exceeds a limit set in the sweep's `constraints`."""


class CopyError(WorkbenchError, RuntimeError):
    """Copying a store failed. The target's databases hold no copied rows."""

    def __init__(self, where: str, reason: str) -> None:
        message = f"the copy to {where} failed and stored no rows: {reason}"
        super().__init__(message, "fix the cause, then run the same command again", "store copy", where)
