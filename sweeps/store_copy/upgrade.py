"""Upgrades a store's SQLite databases to the installed MLflow and Optuna. The old ones stay beside the new ones.

Each database is copied twice: one copy is kept, the other is upgraded and then takes the place of the original in one
step. A process that is killed on the way leaves the original as it was.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from sqlalchemy.pool import NullPool

from experiments.databases.schema import schema_version
from experiments.tracking.store import check_database, enable_wal
from lightning_modules import InputError
from lightning_modules.log import LOG
from sweeps.errors import UpgradeError
from sweeps.store_copy.copy import check_ended
from sweeps.store_copy.databases import RUNS, STUDIES, Database, StorePlace


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """A database that was upgraded: the revisions of its schema before and after, and where the old one is kept."""

    database: str
    before: str | None
    after: str
    kept: str


def upgrade_store(folder: str | Path) -> list[Upgraded]:
    """Upgrades those of the folder's databases that an older MLflow or Optuna has made.

    Raises InputError if the folder has none, if one is of a newer version, or if a process may be writing to it.
    Raises UpgradeError if an upgrade fails; that database is then as it was.
    """
    place = StorePlace(Path(folder).expanduser().absolute())
    databases = [database for kind in (RUNS, STUDIES) if (database := Database(kind, place, "from")).exists]
    if not databases:
        raise InputError("--store", str(place.folder), "has neither mlflow.db nor optuna.db", "name a store's folder")
    with FileLock(place.folder / ".lock"), FileLock(place.folder / ".optuna.lock"):
        outdated = [database for database in databases if _is_outdated(database)]
        return [_upgrade(database) for database in outdated]


def _is_outdated(database: Database) -> bool:
    """Whether it must be upgraded. Raises InputError if that is not possible."""
    check_database(database.file)
    with database.engine.connect() as connection:
        revision, is_empty = schema_version(connection), not sqlalchemy.inspect(connection).get_table_names()
        if is_empty or revision == database.kind.schema.head:
            return False
        if revision is not None and revision not in database.kind.schema.revisions:
            database.kind.schema.check(revision, "--store", str(database.file), "")  # it is of a newer version
        check_ended(database, connection)
        return True


def _upgrade(database: Database) -> Upgraded:
    file = database.file
    new = file.with_name(f"{file.name}.upgrading")
    for leftover in file.parent.glob(f"{new.name}*"):  # of an upgrade that was killed
        leftover.unlink()
    with _alone(file):
        before = _revision_of(file)
        kept = _unused(file, f"{file.name}.before-upgrade")
        LOG.info(f"copying {file} to {kept}")
        _copy(file, new)
        new.replace(kept)
        _copy(file, new)
        LOG.info(f"upgrading {file}")
        try:
            after = _migrated(database, new)
        except (OSError, sqlite3.Error) as error:
            kept.unlink()
            raise UpgradeError(str(file), str(error).splitlines()[0]) from error
        new.replace(file)
    return Upgraded(database=str(file), before=before, after=after, kept=str(kept))


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keeps other processes from writing to the database. Removes its write-ahead log, which must not outlive the file.

    Raises InputError if another process has the database open.
    """
    with closing(sqlite3.connect(file, isolation_level=None, timeout=5)) as connection:
        try:
            ((mode,),) = connection.execute("PRAGMA journal_mode")
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()  # SQLite refuses while others are connected
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            remedy = "end what uses this store (runs, sweeps, workbench ui), then try again"
            raise InputError("--store", str(file), f"is in use: {error}", remedy) from error
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
            raise
        connection.execute("ROLLBACK")


def _copy(file: Path, copy: Path) -> None:
    with closing(sqlite3.connect(file)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)


def _migrated(database: Database, file: Path) -> str:
    """Lets the library's own command line upgrade the file; returns the new revision. Raises OSError if it fails."""
    program, *words = database.kind.upgrade.split()
    main = {"mlflow": ["-m", "mlflow"], "optuna": ["-c", "from optuna.cli import main; main()"]}[program]
    done = subprocess.run([sys.executable, *main, *words, f"sqlite:///{file}"], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    with closing(sqlite3.connect(file)) as upgraded:
        ((problem,),) = upgraded.execute("PRAGMA integrity_check(1)")
    revision = _revision_of(file)
    if problem != "ok" or revision is None or revision != database.kind.schema.head:
        raise OSError(f"the upgraded copy is not whole ({problem}, schema {revision})")
    enable_wal(file)
    return revision


def _revision_of(file: Path) -> str | None:
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.connect() as connection:
        return schema_version(connection)


def _unused(file: Path, name: str) -> Path:
    """Returns the first path beside the file, of this name or this name with a number, that does not exist."""
    paths = (file.with_name(name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
    return next(path for path in paths if not path.exists())
