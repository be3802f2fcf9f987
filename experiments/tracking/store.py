"""The store folder: MLflow's database and artifacts, and Optuna's database, created safely by concurrent processes."""

import errno
import os
import secrets
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import sqlalchemy
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import RunInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from experiments.databases.postgres import checked_url, connect
from experiments.databases.schema import MLFLOW, schema_version
from experiments.errors import StoreError
from experiments.process.owner import Owner
from experiments.process.presence import present
from experiments.process.redaction import without_credentials
from experiments.process.retry import retry
from experiments.process.setup import prepare_process
from experiments.tracking.addresses import follow, local_folder
from experiments.tracking.trust import own, own_if_empty
from lightning_modules import InputError
from lightning_modules.log import LOG

DEFAULT_FOLDER = "mlruns"

_Result = TypeVar("_Result")


def command_on(folder: str | Path, *words: str) -> str:
    """Returns `workbench WORDS…` for the store in `folder`, quoted so that it can be pasted into a shell here."""
    path = Path(folder).expanduser().absolute()
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    options = [] if near == Path(DEFAULT_FOLDER) else ["--store", str(near)]
    return shlex.join(["workbench", *words, *options])


_DATABASES = ("postgresql", "sqlite:", "mysql", "mssql")
_KNOWN_TO_MLFLOW = ("http://", "https://", "databricks", *_DATABASES)  # addresses of runs
_BUSY = {408, 429}  # HTTP codes of a server that may answer later, as it may after an error of its own (500 and above)
_ALMOST_NOTHING = 10**6  # bytes
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def store_failure(error: BaseException) -> str | None:
    """Returns what failed if `error` was caused by the disk, a database or a server; None otherwise."""
    if (reason := server_away(error)) is not None:
        return reason
    for cause in _causes(error):
        is_disk = isinstance(cause, OSError) and cause.errno in _DISK_ERRORS
        if is_disk or isinstance(cause, sqlite3.Error | sqlalchemy.exc.SQLAlchemyError | MlflowException):
            return without_credentials(str(cause).splitlines()[0])
    return None


def _is_full(folder: Path) -> bool:
    """Whether the disk of a store has hardly any space left; SQLite may call that `disk I/O error`."""
    try:
        return shutil.disk_usage(folder).free < _ALMOST_NOTHING
    except OSError:
        return False


def server_away(error: BaseException) -> str | None:
    """Returns what failed if `error` means that the tracking server is unreachable or busy; None otherwise."""
    for cause in _causes(error):
        if isinstance(cause, requests.RequestException) and not isinstance(cause, ValueError):  # such as a wrong URL
            answer = cause.response
            is_away = answer is None or answer.status_code >= 500 or answer.status_code in _BUSY
            return f"the tracking server is unreachable ({type(cause).__name__})" if is_away else None
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields the error, then its cause, then the cause of that, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


@dataclass(frozen=True)
class Store:
    """A folder with `mlflow.db`, `artifacts/`, `optuna.db` and `spool/`; runs go to `tracking_uri`."""

    folder: Path
    tracking_uri: str

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether `open` would open a store that exists: in the folder, or the one that MLFLOW_TRACKING_URI names."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (folder.expanduser() / "mlflow.db").exists()

    @classmethod
    def open(cls, folder: str | Path = DEFAULT_FOLDER) -> "Store":
        """Opens the store in `folder`, which it creates if needed. If MLFLOW_TRACKING_URI is set, runs go there.

        Raises InputError if the folder cannot be written, or its database is damaged or of another MLflow.
        """
        prepare_process()
        tune_sqlite()
        store = cls.at(folder)
        folder = store.folder
        with store._writing():
            if store.is_local and (folder / "mlflow.db").exists():
                check_database(folder / "mlflow.db")
                store.check_schema()  # before anything writes to it
                own_if_empty(folder)
                if count := follow(folder / "mlflow.db", folder / "artifacts"):
                    LOG.info(f"{folder} was moved: the addresses of {count} runs were adapted")
        return store

    @classmethod
    def at(cls, folder: str | Path) -> "Store":
        """Returns the store in `folder` without a look at it: nothing is created, checked or adapted there."""
        folder = Path(folder).expanduser().absolute()
        return cls(folder, _tracking_uri() or f"sqlite:///{folder / 'mlflow.db'}")

    @cached_property
    def client(self) -> MlflowClient:
        """The MLflow client of this store."""
        self.ensure_database()
        self.check_schema()
        try:
            client = MlflowClient(self.tracking_uri)
            client.search_experiments(max_results=1)
        except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:  # or: no driver
            reason = server_away(error) or without_credentials(str(error).splitlines()[0])
            if self.is_local:
                field, remedy = "--store", "name another store"
            else:
                field, remedy = "MLFLOW_TRACKING_URI", "start that server, correct the address, or unset the variable"
            raise InputError(field, self.address, f"MLflow cannot open it: {reason}", remedy) from error
        return client

    def check_schema(self) -> None:
        """Raises InputError if the database of runs is of another MLflow than the installed one. Changes nothing.

        A tracking server looks after its own database.
        """
        if not self.tracking_uri.startswith(("sqlite:", "postgresql")):
            return
        url = make_url(self.tracking_uri)
        field, where = ("--store", str(self.folder)) if self.is_local else ("MLFLOW_TRACKING_URI", self.address)
        if url.get_backend_name() == "sqlite":
            file = Path(url.database or "")
            if file.is_file():
                with closing(sqlite3.connect(file, timeout=60)) as connection:
                    MLFLOW.check_file(connection, field, where, self.command("store", "upgrade"))
        else:
            # MLflow itself would try for minutes to connect, and say nothing.
            engine = connect(self.tracking_uri, field, poolclass=NullPool)
            with engine.connect() as connected:
                if (revision := schema_version(connected)) is not None:
                    upgrade = f"back it up (pg_dump), then: mlflow db upgrade {shlex.quote(where)}"
                    MLFLOW.check(revision, field, where, upgrade)

    def ensure_database(self) -> None:
        """Creates this folder's MLflow database if it is missing. Several processes may call this at the same time."""
        if self.is_local and not (self.folder / "mlflow.db").exists():
            with self._writing():
                if not (self.folder / "mlflow.db").exists():
                    own(self.folder)
                    _make_mlflow_database(self.folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Lets one process at a time into the block; raises InputError if the folder cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                yield
        except (OSError, sqlite3.Error, sqlalchemy.exc.OperationalError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            remedy = "choose a folder that can be written"
            raise InputError("--store", str(self.folder), f"cannot be written: {reason}", remedy) from error

    def command(self, *words: str) -> str:
        """Returns `workbench WORDS…` on this store, quoted so that it can be pasted into a shell."""
        return command_on(self.folder, *words)

    def present(self) -> Owner:
        """Makes it known that this process works on the store, until it ends; returns its identity."""
        return present(self.folder)

    @property
    def address(self) -> str:
        """Where runs go, without credentials: for everything that is shown or written."""
        return without_credentials(self.tracking_uri).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether runs go to this folder's own database."""
        return self.tracking_uri == f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def spool(self) -> Path:
        """The folder with data that the tracking server has not received yet: see spool.py."""
        return self.folder / "spool"

    def files_folder(self, info: RunInfo) -> Path:
        """Returns the folder for a run's files: its artifact folder if that is local, else a folder in the spool."""
        folder = local_folder(info.artifact_uri)
        return self.spool / str(info.run_id) if folder is None else folder

    def delete_artifact(self, artifact_uri: str, name: str) -> None:
        """Deletes a file of the run whose artifacts a server keeps at `artifact_uri`."""
        get_artifact_repository(artifact_uri, tracking_uri=self.tracking_uri).delete_artifacts(name)

    @property
    def is_served(self) -> bool:
        """Whether runs go to a tracking server, which may be unreachable for a while."""
        return self.tracking_uri.startswith("http")

    def persist(self, do: Callable[[], _Result]) -> _Result:
        """Returns the result of `do`, and retries it while the tracking server is unreachable."""
        return retry(do, lambda error: None if isinstance(error, InputError) else server_away(error))

    def await_server(self) -> None:
        """Waits for the tracking server. For a worker process: its parent has already reached the server."""
        if self.is_served:
            self.persist(lambda: MlflowClient(self.tracking_uri).search_experiments(max_results=1))

    @contextmanager
    def telling_failures(self) -> Iterator[None]:
        """Raises a StoreError for any error in the block that comes from a store that cannot be read or written."""
        try:
            yield
        except (StoreError, InputError):
            raise
        except Exception as error:
            if (reason := store_failure(error)) is not None:
                full = " (the disk is full)" if "disk I/O error" in reason and _is_full(self.folder) else ""
                raise StoreError(self.folder, reason + full) from error
            raise

    def lock(self, name: str) -> FileLock:
        """Returns a lock that the processes using this store share."""
        return FileLock(self.folder / f".{name}.lock")

    def experiment_id(self, name: str) -> str:
        """Returns the id of the MLflow experiment `name`; creates the experiment if it is missing."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = (self.folder / "artifacts").as_uri() if self.is_local else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:  # perhaps another process, here or on another host, has just created it
                if (experiment := self.client.get_experiment_by_name(name)) is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            remedy = f"choose another name, or: mlflow experiments restore -x {experiment.experiment_id}"
            raise InputError("experiment", name, "was deleted in this store", remedy)
        return str(experiment.experiment_id)


def _tracking_uri() -> str | None:
    """Returns MLFLOW_TRACKING_URI; a PostgreSQL URL gets the driver that this project installs."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and not uri.startswith(_KNOWN_TO_MLFLOW) and not os.environ.get("MLFLOW_ALLOW_FILE_STORE"):
        remedy = "write http://HOST:PORT, postgresql://USER@HOST/DATABASE or sqlite:////FILE, or unset the variable"
        message = "is neither a server's address nor a database's"
        raise InputError("MLFLOW_TRACKING_URI", without_credentials(uri), message, remedy)
    if uri and uri.startswith("postgresql://"):
        return checked_url(uri, "MLFLOW_TRACKING_URI").render_as_string(hide_password=False)
    if uri and uri.startswith("http"):
        _check_server_url(uri)
    elif uri and uri.startswith(_DATABASES):
        _check_database_url(uri)
    return uri


def _check_server_url(uri: str) -> None:
    """Raises InputError if the address of a server cannot be read, as with a slash in the password."""
    try:
        parts = urlsplit(uri)
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is no number
        is_address = False
    if not is_address:
        remedy = "write http://HOST:PORT; in a password, write / as %2F, # as %23, ? as %3F and @ as %40"
        raise InputError("MLFLOW_TRACKING_URI", without_credentials(uri), "is no address of a server", remedy)


def _check_database_url(uri: str) -> None:
    """Raises InputError if the address of a database cannot be read, or if its driver is missing."""
    try:
        make_url(uri).get_dialect().import_dbapi()
    except (sqlalchemy.exc.SQLAlchemyError, ValueError, ImportError) as error:  # ValueError: the port is no number
        message, remedy = "is no database URL", "in a password, write @ as %40, : as %3A and / as %2F"
        if isinstance(error, ImportError):
            message, remedy = f"its driver is missing: {error.name}", "install it, or name another database"
        raise InputError("MLFLOW_TRACKING_URI", without_credentials(uri), message, remedy) from error


def _make_mlflow_database(folder: Path) -> None:
    """Creates the database under another name and then renames it: a killed process leaves no incomplete database.

    Each attempt has its own name: MLflow keeps connections by name, and a notebook may go on after one was stopped.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = folder / f"mlflow.db.new{secrets.token_hex(4)}"
    for leftover in folder.glob("mlflow.db.new*"):
        leftover.unlink()
    SqlAlchemyStore(f"sqlite:///{new}", str(folder / "artifacts")).engine.dispose()
    enable_wal(new)
    new.rename(folder / "mlflow.db")


def check_database(database: Path) -> None:
    """Raises InputError if the file is damaged. MLflow itself would try to connect to it for minutes."""
    with closing(sqlite3.connect(database)) as connection:
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            raise  # it is locked or cannot be opened
        except sqlite3.DatabaseError as error:
            raise InputError("--store", str(database), f"is damaged: {error}", "move the file away") from error


def enable_wal(database: Path) -> None:
    """Switches an SQLite file permanently to write-ahead logging: readers then no longer block the writer."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def tune_sqlite() -> None:
    """Makes every SQLite connection of this process wait up to a minute for a lock, and sync only at checkpoints.

    One that is closed because its thread was interrupted ends its transaction.
    """
    if not sqlalchemy.event.contains(sqlalchemy.Engine, "connect", _tune):
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _tune)
        sqlalchemy.event.listen(sqlalchemy.Engine, "invalidate", _roll_back)


def _tune(connection: Any, _: Any) -> None:
    """Sets the options. With WAL, `synchronous=NORMAL` keeps the file intact through a crash (sqlite.org/wal.html)."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA busy_timeout=60000")
        connection.execute("PRAGMA synchronous=NORMAL")


def _roll_back(connection: Any, *_: Any) -> None:
    """Gives up the connection's locks. By itself, one that is closed while a statement still has rows keeps them.

    Such a statement is kept by the traceback of the interrupt. Source: sqlite.org/c3ref/close.html ("zombie").
    """
    if isinstance(connection, sqlite3.Connection):
        connection.rollback()
