"""Imports everything that a local worker needs. The server that workers are forked from loads this module once."""

import gc
import sys
from importlib import import_module
from pickle import UnpicklingError
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Says nothing of a command that was killed while it sent a new worker its work: there is nobody to tell."""
    if not isinstance(error, EOFError | UnpicklingError):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _tell  # which the server calls if a process that it has forked cannot begin

gc.disable()  # garbage collection during the imports would take a quarter of the time
import_module("sweeps.engines.local")
for late in ("alembic.command", "mlflow.store.tracking.sqlalchemy_store"):  # Optuna and MLflow import these later
    import_module(late)

gc.freeze()  # else the first collection writes to every object, and each worker copies all memory pages
gc.enable()
