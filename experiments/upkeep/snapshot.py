"""Reads an SQLite file without changing a byte of it or of the files beside it."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lightning_modules import InputError

_ATTEMPTS = 3


@contextmanager
def snapshot(database: Path) -> Iterator[sqlite3.Connection]:
    """Yields a connection that reads the database as it is now. Raises InputError if the file is damaged.

    Even a reader would change the files of a database with a write-ahead log: such a one is copied first. If other
    processes write all the time, which changes the files anyway, it is read in place.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch, closing(_connect(database, Path(scratch))) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise InputError("--store", str(database), f"cannot be read: {error}", "name the folder of a store") from error


def _connect(database: Path, scratch: Path) -> sqlite3.Connection:
    for _ in range(_ATTEMPTS):
        before = _state(database)
        if not _log_of(database).exists() or _log_of(database).stat().st_size == 0:
            return sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)
        copied = scratch / database.name
        shutil.copyfile(database, copied)
        shutil.copyfile(_log_of(database), _log_of(copied))
        if _state(database) == before:
            return sqlite3.connect(copied)
    return sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)


def _state(database: Path) -> list[tuple[int, int] | None]:
    found = [path.stat() if path.exists() else None for path in (database, _log_of(database))]
    return [each and (each.st_size, each.st_mtime_ns) for each in found]


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")
