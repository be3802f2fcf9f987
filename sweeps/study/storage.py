"""Where studies are kept: an SQLite file in the store's folder, or a PostgreSQL database that machines share."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

from experiments.errors import StoreError
from experiments.process.redaction import without_credentials
from experiments.process.retry import pauses, retry
from experiments.tracking.postgres import connect
from experiments.tracking.store import Store, check_database, enable_wal

BEAT, GRACE = 15, 120  # seconds between two signs of life of a trial, and without one until others take it over
_TRIES = 5  # again to do what a lost connection broke off

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Storage:
    """The database of studies of one store; `url` None: the file `optuna.db` in its folder."""

    store: Store
    url: str | None = None

    @contextmanager
    def open(self) -> Iterator[RDBStorage]:
        """Opens Optuna's storage for a `with` block, whose end closes its connections; makes tables that are missing.

        Raises InputError where the database cannot be opened.
        """
        with self.lock("optuna"):
            if self.url is None:
                database = self.store.folder / "optuna.db"
                if database.exists():
                    check_database(database)
                storage = _rdb_storage(f"sqlite:///{database}")
                enable_wal(database)
            else:
                storage = _rdb_storage(self._server.url.render_as_string(hide_password=False), pool_pre_ping=True)
                _be_patient(storage.engine)
        try:
            yield storage
        finally:  # Optuna's storage has no way of its own to close
            storage.remove_session()
            storage.engine.dispose()

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Held by one process at a time, of all that use this database."""
        if self.url is None:
            return self.store.lock(name.replace("/", "_"))
        return _advisory_lock(self._server, name)

    def persist(self, do: Callable[[], _Result]) -> _Result:
        """What `do` gives; done again, after growing pauses, where a server was lost in the middle of it.

        Raises StoreError where it fails again and again, or at once where there is no server.
        """

        def tell() -> _Result:
            with self.store.telling_failures():
                return do()

        has_server = self.url is not None or self.store.is_served
        waits = islice(pauses(), _TRIES) if has_server else ()
        return retry(tell, lambda error: error.message if isinstance(error, StoreError) else None, waits)

    @cached_property
    def _server(self) -> Engine:
        """Where locks are held, each on a connection of its own. The first use finds out whether there is a server."""
        assert self.url is not None
        engine = connect(self.url, "storage", poolclass=NullPool)
        _be_patient(engine)
        return engine


# Optuna's private names. The rest of the code uses these functions instead.


def id_of(trial: Trial | FrozenTrial) -> int:
    """The id of a trial in the database. It is unique among all studies, which the trial's number is not."""
    return trial._trial_id


def database_of(study: optuna.Study) -> BaseStorage:
    """The storage that a study was opened on."""
    return study._storage


def reopen(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """A trial that was read from the study, to be written to."""
    return Trial(study, trial._trial_id)


def give_sign_of_life(study: optuna.Study, trial: Trial) -> None:
    """Records that the trial's process lives, now."""
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]  # an RDBStorage has it


@contextmanager
def signs_of_life(study: optuna.Study, trial: Trial) -> Iterator[None]:
    """Within the block, a thread records every `BEAT` seconds that the trial's process lives."""
    with get_heartbeat_thread(trial._trial_id, study._storage):
        yield


def silent_trials(study: optuna.Study) -> set[int]:
    """The ids of the RUNNING trials without a sign of life for `GRACE` seconds."""
    return set(study._storage._get_stale_trial_ids(study._study_id))  # type: ignore[attr-defined]  # as above


def _rdb_storage(url: str, **engine: Any) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats are so marked since Optuna 2.9
        return RDBStorage(url, engine_kwargs=engine, heartbeat_interval=BEAT, grace_period=GRACE)


@contextmanager
def _advisory_lock(engine: Engine, name: str) -> Iterator[None]:
    """PostgreSQL lets go of it when the connection ends, however that comes about."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = {"name": f"workbench {name}"}
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), key)
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), key)


def _be_patient(engine: Engine) -> None:
    """From now on a connection that cannot be made is tried for again, patiently."""

    def try_on(dialect: Any, _: Any, words: Any, options: Any) -> Any:
        def reason(error: Exception) -> str | None:
            if not isinstance(error, dialect.loaded_dbapi.OperationalError):
                return None
            return f"storage: {without_credentials(str(error).strip().splitlines()[-1])}"

        return retry(lambda: dialect.connect(*words, **options), reason)

    sqlalchemy.event.listen(engine, "do_connect", try_on)
