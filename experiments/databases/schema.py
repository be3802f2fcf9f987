"""Which version of MLflow or Optuna a database is made for: its Alembic revision, compared with the installed one.

A database of another version is refused before that library opens it. MLflow would upgrade an old one without asking,
after which the older MLflow can no longer open it.
"""

import re
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from lightning_modules import InputError

REVISIONS = "alembic_version"  # the table with the revision of a database
_LINE = re.compile(r"^(down_revision|revision)\b[^=\n]*=(.*)", re.MULTILINE)
_NAME = re.compile(r"""["']([\w.]+)["']""")


@dataclass(frozen=True)
class Schema:
    """The migrations of one library."""

    name: str  # of the library, for messages
    package: str  # the package whose folder holds `versions/`, a file for each revision
    subfolder: str = ""

    @cached_property
    def revisions(self) -> frozenset[str]:
        """All revisions that the installed version knows."""
        return frozenset(name for each in self._migrations for name in each["revision"])

    @cached_property
    def head(self) -> str:
        """The revision that the installed version works with."""
        (head,) = self.revisions - {name for each in self._migrations for name in each["down_revision"]}
        return head

    @cached_property
    def _migrations(self) -> list[dict[str, list[str]]]:
        """The migrations, each with its revision and those before it. Alembic itself takes a second to find them."""
        found = find_spec(self.package)
        assert found is not None
        assert found.submodule_search_locations is not None
        files = (Path(found.submodule_search_locations[0]) / self.subfolder / "versions").glob("*.py")
        lines = [dict(_LINE.findall(file.read_text(encoding="utf-8"))) for file in files]
        return [{key: _NAME.findall(text) for key, text in each.items()} for each in lines if "revision" in each]

    def check(self, revision: str | None, field: str, where: str, upgrade: str) -> None:
        """Raises InputError unless a database with this revision fits. None: it has tables, but no revision.

        `upgrade`: the command that upgrades the database.
        """
        if revision == self.head:
            return
        installed = f"{self.name} {version(self.name.lower())}"
        if revision is None or revision in self.revisions:
            message = f"is the database of an older {self.name} than the installed {installed}, and was not changed"
            raise InputError(field, where, message, f"to upgrade it: {upgrade}")
        message = f"is the database of a newer {self.name} than the installed {installed} (schema {revision})"
        raise InputError(field, where, message, f"install the {self.name} that made it, or a newer one")

    def check_file(self, connection: sqlite3.Connection, field: str, where: str, upgrade: str) -> None:
        """Like `check`, for an SQLite database. An empty one fits: the library is going to make its tables."""
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables:
            self.check(_revision(connection) if REVISIONS in tables else None, field, where, upgrade)


MLFLOW = Schema("MLflow", "mlflow.store.db_migrations")


def schema_version(connection: Connection) -> str | None:
    """Returns Alembic's revision of the schema; None if there is none."""
    if not inspect(connection).has_table(REVISIONS):
        return None
    found = connection.scalar(text(f"SELECT version_num FROM {REVISIONS}"))
    return None if found is None else str(found)


def _revision(connection: sqlite3.Connection) -> str | None:
    found = connection.execute(f"SELECT version_num FROM {REVISIONS}").fetchone()
    return None if found is None else str(found[0])
