"""All that a local worker imports, for the server that workers are forked from: none of them imports it again."""

import gc
from importlib import import_module

gc.disable()  # it would look again and again at all that was ever imported: a quarter of the time
import_module("sweeps.engines.local")  # first: experiments sets how MLflow starts up
for late in ("alembic.command", "mlflow.store.tracking.sqlalchemy_store"):  # once Optuna and MLflow open a store
    import_module(late)

gc.freeze()  # or the first collection writes to every object, and each worker copies all their pages
gc.enable()
