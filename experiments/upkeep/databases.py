"""The room that SQLite files take and do not need: free pages, and the log of what was written last."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from experiments.tracking.store import Store
from experiments.upkeep.item import Item
from experiments.upkeep.reading import reading

_NAMES = ("mlflow.db", "optuna.db")
_LEAST = 65_536  # bytes: below, it is not worth the writing


def databases(store: Store, *, in_place: bool) -> Iterator[Item]:
    """Yields the store's databases that can be made smaller. No process may be at work on the store."""
    for database in filter(Path.exists, (store.folder / name for name in _NAMES)):
        log = database.with_name(f"{database.name}-wal")
        with reading(database, in_place=in_place) as connection:
            ((pages,),) = connection.execute("PRAGMA freelist_count")
            ((page_size,),) = connection.execute("PRAGMA page_size")
            ((all_pages,),) = connection.execute("PRAGMA page_count")
        now = database.stat().st_size + (log.stat().st_size if log.exists() else 0)
        spare = now - (all_pages - pages) * page_size
        if spare >= _LEAST:
            yield Item(what="database", path=str(database), bytes=spare, remove=partial(_compact, database))


def _compact(database: Path) -> None:
    """Rewrites a database without its free pages. SQLite keeps the old one until the new one is whole.

    Raises OSError if it cannot be done, for example because the disk is full.
    """
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise OSError(f"{database}: {error}") from error
