"""What a process needs is set by one function; importing a module changes nothing."""

import subprocess
import sys

# Everything that other libraries set when they are imported is there before the first look.
PROGRAM = """
import logging, os, pkgutil, sys, warnings
from importlib import import_module
for library in ("alembic", "matplotlib.pyplot", "mlflow", "optuna", "pytorch_lightning", "ray", "sqlalchemy", "torch"):
    import_module(library)
import mlflow.store.tracking.sqlalchemy_store, mlflow.system_metrics.system_metrics_monitor, optuna.storages
import sqlalchemy

def state():
    levels = {name: logging.getLogger(name).level for name in ("workbench", "mlflow", "optuna", "pytorch_lightning")}
    return dict(os.environ), list(warnings.filters), levels, logging.getLogger("workbench").handlers[:]

before = state()
for floor in ("lightning_modules", "experiments", "sweeps", "workbench"):
    for module in pkgutil.walk_packages(import_module(floor).__path__, f"{floor}."):
        if module.name not in ("workbench.__main__", "sweeps.engines.preload", "experiments.results.served_classifier"):
            import_module(module.name)
after = state()
for name, one, other in zip(("environment", "filters", "levels", "handlers"), before, after):
    assert one == other, (name, one, other)
from experiments.tracking import store
assert not sqlalchemy.event.contains(sqlalchemy.Engine, "connect", store._tune)
from experiments.process.setup import prepare_process
prepare_process()
prepare_process()
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
assert logging.getLogger("optuna").level == logging.WARNING
assert len(logging.getLogger("workbench").handlers) == 1
"""


def test_importing_every_module_changes_nothing_and_preparing_sets_it_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
