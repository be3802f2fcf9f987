"""The database of studies: an SQLite file in the store's folder, or a PostgreSQL database for several machines."""

import shlex
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, Trial
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from experiments.databases.postgres import connect
from experiments.databases.schema import Schema, schema_version
from experiments.errors import StoreError
from experiments.process.presence import BEAT, SILENCE, WATCH
from experiments.process.redaction import without_credentials
from experiments.process.retry import pauses, retry
from experiments.tracking.store import Store, check_database, enable_wal

GRACE = int(SILENCE + WATCH)  # seconds without a sign of life after which another process takes over the trial
OPTUNA = Schema("Optuna", "optuna.storages._rdb", "alembic")  # where its migrations are: private, like more below
_RETRIES = 5  # of an operation that lost its connection

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Storage:
    """The database of a store's studies. If `url` is None, it is the file `optuna.db` in the store's folder."""

    store: Store
    url: str | None = None

    @contextmanager
    def open(self) -> Iterator[RDBStorage]:
        """Opens Optuna's storage for a `with` block and closes its connections at the end; creates missing tables.

        Raises InputError if the database cannot be opened, or is of another Optuna than the installed one.
        """
        with self.lock("optuna"):
            if self.url is None:
                database = self.store.folder / "optuna.db"
                if database.exists():
                    check_database(database)
                    upgrade = self.store.command("store", "upgrade")
                    with closing(sqlite3.connect(database, timeout=60)) as connection:
                        OPTUNA.check_file(connection, "--store", str(self.store.folder), upgrade)
                storage = _rdb_storage(f"sqlite:///{database}")
                enable_wal(database)
            else:
                with self._server.connect() as connected:
                    if (revision := schema_version(connected)) is not None:
                        where = without_credentials(self.url)
                        upgrade = f"back it up (pg_dump), then: optuna storage upgrade --storage {shlex.quote(where)}"
                        OPTUNA.check(revision, "storage", where, upgrade)
                storage = _rdb_storage(self._server.url.render_as_string(hide_password=False), pool_pre_ping=True)
                _retry_connecting(storage.engine)
        try:
            yield storage
        finally:  # Optuna's storage has no close method
            storage.remove_session()
            storage.engine.dispose()

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Returns a lock that all processes using this database share."""
        if self.url is None:
            return self.store.lock(name.replace("/", "_"))
        return _advisory_lock(self._server, name)

    def persist(self, do: Callable[[], _Result]) -> _Result:
        """Returns the result of `do`. Retries it with growing pauses if the connection to a server is lost.

        Raises StoreError if the last retry fails too. Without a server it does not retry.
        """

        def attempt() -> _Result:
            with self.store.telling_failures():
                return do()

        has_server = self.url is not None or self.store.is_served
        waits = islice(pauses(), _RETRIES) if has_server else ()
        return retry(attempt, lambda error: error.message if isinstance(error, StoreError) else None, waits)

    @cached_property
    def _server(self) -> Engine:
        """The engine for locks, one connection per lock. The first use raises InputError if there is no server."""
        assert self.url is not None
        engine = connect(self.url, "storage", poolclass=NullPool)
        _retry_connecting(engine)
        return engine


# Optuna's private names. The rest of the code uses these functions instead.


def id_of(trial: Trial | FrozenTrial) -> int:
    """Returns the trial's id in the database. It is unique among all studies; the trial's number is not."""
    return trial._trial_id


def database_of(study: optuna.Study) -> BaseStorage:
    """Returns the storage on which the study was opened."""
    return study._storage


def reopen(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """Returns a writable trial for a trial that was read from the study."""
    return Trial(study, trial._trial_id)


def give_sign_of_life(study: optuna.Study, trial: Trial) -> None:
    """Records that the trial's process is alive now."""
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]  # an RDBStorage has it


@contextmanager
def signs_of_life(study: optuna.Study, trial: Trial) -> Iterator[None]:
    """Records every `BEAT` seconds, in a thread, that the trial's process is alive, until the block ends."""
    with get_heartbeat_thread(trial._trial_id, study._storage):
        yield


def silent_trials(study: optuna.Study) -> set[int]:
    """Returns the ids of the RUNNING trials without a sign of life for `GRACE` seconds."""
    return set(study._storage._get_stale_trial_ids(study._study_id))  # type: ignore[attr-defined]  # as above


def _rdb_storage(url: str, **engine: Any) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna marks heartbeats so since 2.9
        return RDBStorage(url, engine_kwargs=engine, heartbeat_interval=int(BEAT), grace_period=GRACE)


@contextmanager
def _advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """Holds a lock in PostgreSQL, which releases it when the connection ends for any reason."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = {"name": f"workbench {name}"}
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), key)
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), key)


def _retry_connecting(engine: Engine) -> None:
    """Makes the engine retry, with growing pauses, every connection that fails."""

    def connect_with_retries(dialect: Any, _: Any, words: Any, options: Any) -> Any:
        def reason(error: Exception) -> str | None:
            if not isinstance(error, dialect.loaded_dbapi.OperationalError):
                return None
            return f"storage: {without_credentials(str(error).strip().splitlines()[-1])}"

        return retry(lambda: dialect.connect(*words, **options), reason)

    sqlalchemy.event.listen(engine, "do_connect", connect_with_retries)
