"""The errors that a sweep, or the copy or upgrade of a store, can raise."""

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


class UpgradeError(WorkbenchError, RuntimeError):
    """Upgrading a store's database failed. The database is as it was."""

    def __init__(self, where: str, reason: str) -> None:
        remedy = "fix the cause, then run the same command again"
        super().__init__(f"the upgrade of {where} failed, which is as it was: {reason}", remedy, "store upgrade", where)


def broken_limit(error: str) -> str:
    """Returns the field of the limit that a trial broke, by the error that its study keeps; else nothing."""
    return error.partition(":")[0] if error.startswith("constraints.") else ""
