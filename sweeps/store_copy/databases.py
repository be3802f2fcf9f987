"""The two databases of a store, SQLite or PostgreSQL: MLflow's with the runs, Optuna's with the studies."""

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from experiments.databases.postgres import connect
from experiments.databases.schema import MLFLOW, Schema, schema_version
from experiments.process.redaction import without_credentials
from experiments.tracking.store import Store, check_database, command_on
from sweeps.study.storage import OPTUNA, Storage


@dataclass(frozen=True)
class StorePlace:
    """A store's folder, which holds `artifacts/` and `code.git`; the URLs of its databases in PostgreSQL."""

    folder: Path
    tracking: str | None = None  # None: mlflow.db in the folder
    storage: str | None = None  # None: optuna.db in the folder

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def code(self) -> Path:
        return self.folder / "code.git"


@dataclass(frozen=True)
class DatabaseKind:
    """What differs between the two kinds of databases."""

    name: Literal["runs", "studies"]
    item: str  # an entry that a process may have open
    file: str
    option: str  # the end of the command-line option for its URL
    new_has: frozenset[str]  # the tables that have one row each right after creation
    owners: str  # a query for open entries, each with its process
    schema: Schema
    upgrade: str  # the command that upgrades a PostgreSQL database


RUNS = DatabaseKind(
    name="runs",
    item="run",
    file="mlflow.db",
    option="tracking",
    new_has=frozenset({"experiments", "workspaces"}),
    owners="SELECT runs.run_uuid, tags.value FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
    "WHERE runs.status = 'RUNNING' AND tags.key = 'workbench.owner'",
    schema=MLFLOW,
    upgrade="mlflow db upgrade",
)
STUDIES = DatabaseKind(
    name="studies",
    item="trial",
    file="optuna.db",
    option="storage",
    new_has=frozenset({"version_info"}),
    owners="SELECT trials.trial_id, given.value_json FROM trials JOIN trial_user_attributes given "
    "ON given.trial_id = trials.trial_id WHERE trials.state = 'RUNNING' AND given.key = 'owner'",
    schema=OPTUNA,
    upgrade="optuna storage upgrade --storage",
)


@dataclass(frozen=True)
class Database:
    """One of a store's two databases."""

    kind: DatabaseKind
    place: StorePlace
    side: Literal["from", "to"]  # source or target of the copy

    @property
    def url(self) -> str | None:
        """The PostgreSQL URL; None if the database is a file in the folder."""
        return self.place.tracking if self.kind is RUNS else self.place.storage

    @property
    def file(self) -> Path:
        return self.place.folder / self.kind.file

    @property
    def shown(self) -> str:
        """The file or URL for messages, without credentials."""
        return str(self.file) if self.url is None else without_credentials(self.url)

    @property
    def field(self) -> str:
        """Its name on the command line."""
        return self.side.upper() if self.url is None else f"--{self.side}-{self.kind.option}"

    @property
    def exists(self) -> bool:
        return self.url is not None or self.file.exists()

    @cached_property
    def engine(self) -> Engine:
        """The engine of an existing database. Raises InputError if the database cannot be opened."""
        if self.url is not None:
            return connect(self.url, self.field, poolclass=NullPool)
        check_database(self.file)
        return sqlalchemy.create_engine(f"sqlite:///{self.file}", poolclass=NullPool)

    def check_schema(self, connection: Connection) -> None:
        """Raises InputError if it was made by another MLflow or Optuna than the installed one."""
        if self.url is None:
            upgrade = command_on(self.place.folder, "store", "upgrade")
        else:
            upgrade = f"back it up (pg_dump), then: {self.kind.upgrade} {shlex.quote(self.shown)}"
        self.kind.schema.check(schema_version(connection), self.field, self.shown, upgrade)

    def make_tables(self) -> None:
        """Lets MLflow or Optuna create its tables if there are none."""
        if self.exists:
            with self.engine.connect() as connection:
                if schema_version(connection) is not None:
                    return
        folder = self.place.folder
        folder.mkdir(parents=True, exist_ok=True)
        store = Store(folder, f"sqlite:///{folder / RUNS.file}")
        if self.kind is STUDIES:
            with Storage(store, self.url).open():
                pass
        elif self.url is None:
            store.ensure_database()
        else:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            url = self.engine.url.render_as_string(hide_password=False)
            SqlAlchemyStore(url, self.place.artifacts.as_uri()).engine.dispose()
