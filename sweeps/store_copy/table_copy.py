"""Copies all rows of a database to another one with the same schema (SQLite or PostgreSQL) and hashes them."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

from sqlalchemy import JSON, Connection, Integer, MetaData, Table, delete, func, insert, select
from sqlalchemy.engine import Engine

from experiments.databases.schema import REVISIONS

Row = dict[str, Any]
Change = Callable[[str, Row], Row]  # takes a table's name and one of its rows

_ROWS_AT_A_TIME = 2000


@dataclass(frozen=True, kw_only=True)
class Content:
    """The row count and hash of a table. Equal rows give an equal hash in any order and in either kind of database."""

    table: str
    rows: int
    sha256: str


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Opens a connection that reads the state of one moment, even if other processes write at the same time."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # the snapshot starts at the first read
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def tables_of(connection: Connection) -> list[Table]:
    """Returns all tables except Alembic's, each after the tables that its foreign keys point to."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type.none_as_null = True
    return [table for table in metadata.sorted_tables if table.name != REVISIONS]


def row_counts(connection: Connection) -> dict[str, int]:
    """Returns the number of rows of each table."""
    counts = (
        (table.name, connection.scalar(select(func.count()).select_from(table))) for table in tables_of(connection)
    )
    return {name: count or 0 for name, count in counts}


def contents(connection: Connection, change: Change = lambda _, row: row) -> list[Content]:
    """Returns the content of each table after `change`."""
    found = []
    for table in tables_of(connection):
        digest = _Digest()
        for row in _rows(connection, table, change):
            digest.add(row)
        found.append(digest.content(table.name))
    return found


def copy_tables(source: Connection, target: Connection, change: Change) -> list[Content]:
    """Replaces all rows of the target by the source's rows after `change`; returns the content of each copied table.

    Skips tables that the target lacks, because they are not in the schema. The caller commits the transaction.
    """
    tables = {table.name: table for table in tables_of(target)}
    for table in reversed(tables.values()):
        target.execute(delete(table))
    copied = []
    for table in (table for table in tables_of(source) if table.name in tables):
        digest, into = _Digest(), tables[table.name]
        computed = {column.name for column in into.columns if column.computed is not None}
        for rows in _chunks(_rows(source, table, change)):
            for row in rows:
                digest.add(row)
            target.execute(insert(into), [{k: v for k, v in row.items() if k not in computed} for row in rows])
        copied.append(digest.content(table.name))
    if target.dialect.name == "postgresql":
        _continue_numbering(target, tables.values())
    return copied


def _rows(connection: Connection, table: Table, change: Change) -> Iterator[Row]:
    found = connection.execute(select(table).execution_options(yield_per=_ROWS_AT_A_TIME))
    for row in found.mappings():
        # SQLite stores a real number without a fraction as an integer, so it has no negative zero.
        plain = {name: value + 0.0 if isinstance(value, float) else value for name, value in row.items()}
        yield change(table.name, plain)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, _ROWS_AT_A_TIME)):
        yield chunk


def _continue_numbering(connection: Connection, tables: Iterable[Table]) -> None:
    """Makes PostgreSQL number new rows after the highest number that was copied."""
    for table in tables:
        for column in table.primary_key:
            if not isinstance(column.type, Integer):
                continue
            sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
            highest = connection.scalar(select(func.max(column)))
            if sequence is not None and highest is not None:
                connection.execute(select(func.setval(sequence, highest)))


class _Digest:
    """Adds up the hashes of rows, so that their order does not matter."""

    def __init__(self) -> None:
        self._rows = self._sum = 0

    def add(self, row: Row) -> None:
        written = json.dumps(row, sort_keys=True, default=_as_text).encode()
        self._rows += 1
        self._sum = (self._sum + int.from_bytes(sha256(written).digest())) % 2**256

    def content(self, table: str) -> Content:
        return Content(table=table, rows=self._rows, sha256=f"{self._sum:064x}")


def _as_text(value: Any) -> str:
    """Writes values that JSON does not have, such as bytes and times, as text."""
    return value.hex() if isinstance(value, bytes | memoryview) else str(value)
