"""The errors of a sweep and of a store's copy."""

from experiments.errors import Pruned
from lightning_modules.errors import WorkbenchError


class SweepStoppedError(WorkbenchError, RuntimeError):
    """The sweep cannot go on. The same command again continues it."""


class LimitBroken(Pruned):
    """A trial needs more than the sweep allows."""


class CopyError(WorkbenchError, RuntimeError):
    """The copy of a store broke off, and the target's databases are as they were."""

    def __init__(self, where: str, reason: str) -> None:
        message = f"to {where} broke off, and keeps no row: {reason}"
        super().__init__(message, "fix that, and give the same command again", "store copy", where)
