"""Optuna's own storage on the studies of a store."""

from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool


def stock_storage(store: Path | str) -> RDBStorage:
    """Of a store's folder, or of the database at a URL; keeps no connection open."""
    url = store if isinstance(store, str) else f"sqlite:///{store}/optuna.db"
    return RDBStorage(url, engine_kwargs={"poolclass": NullPool})
