"""Opens a store's studies with plain Optuna, without this project's code."""

from pathlib import Path

from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool


def stock_storage(store: Path | str) -> RDBStorage:
    """Returns Optuna's storage for a store's folder or a database URL. It keeps no connection open."""
    url = store if isinstance(store, str) else f"sqlite:///{store}/optuna.db"
    return RDBStorage(url, engine_kwargs={"poolclass": NullPool})
