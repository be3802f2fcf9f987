"""Imports everything that a local worker needs. The server that workers are forked from loads this module once."""

import gc
from importlib import import_module

gc.disable()  # garbage collection during the imports would take a quarter of the time
import_module("sweeps.engines.local")
for late in ("alembic.command", "mlflow.store.tracking.sqlalchemy_store"):  # Optuna and MLflow import these later
    import_module(late)

gc.freeze()  # else the first collection writes to every object, and each worker copies all memory pages
gc.enable()
