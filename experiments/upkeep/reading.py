"""Reads an SQLite file, if asked without changing a byte of it or of the files beside it."""

import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lightning_modules import InputError

_ATTEMPTS = 3


@contextmanager
def reading(database: Path, *, in_place: bool) -> Iterator[sqlite3.Connection]:
    """Yields a connection that reads the database as it is now. Raises InputError if the file is damaged.

    Not `in_place`, it changes no byte. Even a reader would change the files of a database with a write-ahead log: such
    a one is copied first, unless other processes write all the time, which changes the files anyway.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            opened = sqlite3.connect(database, timeout=60) if in_place else _open_unchanged(database, Path(scratch))
            with closing(opened) as connection:
                yield connection
    except sqlite3.DatabaseError as error:
        raise InputError("--store", str(database), f"cannot be read: {error}", "name the folder of a store") from error


def _open_unchanged(database: Path, scratch: Path) -> sqlite3.Connection:
    for _ in range(_ATTEMPTS):
        before = _state(database)
        if not _log_of(database).exists() or _log_of(database).stat().st_size == 0:
            return sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)
        copied = scratch / database.name
        # In another process: when this one closes a file, it loses its locks on it, which SQLite's connections need.
        subprocess.run(["cp", str(database), str(_log_of(database)), str(scratch)], check=True)
        if _state(database) == before:
            return sqlite3.connect(copied)
    return sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)


def _state(database: Path) -> list[tuple[int, int] | None]:
    found = [path.stat() if path.exists() else None for path in (database, _log_of(database))]
    return [each and (each.st_size, each.st_mtime_ns) for each in found]


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")
