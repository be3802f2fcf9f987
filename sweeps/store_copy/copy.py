"""A whole store copied to another place: runs, studies and artifacts, from SQLite to PostgreSQL and back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, text

from experiments.process.file_copy import CopiedFiles, copy_files
from experiments.process.owner import Owner
from experiments.process.redaction import without_credentials
from experiments.tracking.store import store_failure
from lightning_modules import InputError
from lightning_modules.log import LOG
from sweeps.errors import CopyError
from sweeps.store_copy.databases import RUNS, STUDIES, Database, StorePlace
from sweeps.store_copy.table_copy import (
    Change,
    Content,
    Row,
    contents,
    copy_tables,
    row_counts,
    schema_version,
    snapshot,
)

_SERVED = "mlflow-artifacts:"  # what an MLflow server calls the folder that --artifacts-destination names
_ADDRESSES = {  # the columns that say where artifacts lie
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
    ("workspaces", "default_artifact_root"),
}


@dataclass(frozen=True, kw_only=True)
class StoreCopy:
    """What was copied, and found equal in its new place."""

    databases: dict[str, list[Content]]  # "runs", "studies": their tables, in the target
    artifacts: CopiedFiles
    elsewhere: int  # runs whose artifacts lie outside the source's folder, and stay there

    def as_dict(self) -> dict[str, Any]:
        databases = {name: [vars(table) for table in tables] for name, tables in self.databases.items()}
        return {"databases": databases, "artifacts": vars(self.artifacts), "elsewhere": self.elsewhere}


def copy_store(source: StorePlace, target: StorePlace, *, served: bool = False) -> StoreCopy:
    """Copies every row of the source's databases, and every artifact, to a target that holds no runs yet.

    Ids stay. Where a row says that artifacts lie in the source's folder, it says the target's; `served`: what an MLflow
    server calls that. All rows are read back and compared, then kept together. A target that was copied to and not used
    since is compared again. Raises InputError, and CopyError where it breaks off.
    """
    pairs = [(Database(kind, source, "from"), Database(kind, target, "to")) for kind in (RUNS, STUDIES)]
    pairs = [(from_, to) for from_, to in pairs if from_.exists]
    if not pairs:
        raise InputError("FROM", str(source.folder), "has neither mlflow.db nor optuna.db", "name a store's folder")
    root = _SERVED if served else target.artifacts.as_uri()
    change = partial(_with_new_address, roots=_roots(source), root=root)
    with ExitStack() as stack, _telling_failures(target):
        readers = [stack.enter_context(snapshot(from_.engine)) for from_, _ in pairs]
        for (from_, _), reader in zip(pairs, readers, strict=True):
            _check_source(from_, reader)
        for (from_, to), reader in zip(pairs, readers, strict=True):
            _check_target(from_, to, reader, change)
        _say(f"artifacts to {target.artifacts}")
        artifacts = copy_files(source.artifacts, target.artifacts)
        databases: dict[str, list[Content]] = {}
        for (_, to), reader in zip(pairs, readers, strict=True):
            _say(f"{to.kind.name} to {to.shown}")
            databases[to.kind.name] = _copy_rows(to, reader, stack.enter_context(to.engine.begin()), change)
        elsewhere = _count_elsewhere(readers[0], source) if "runs" in databases else 0
    return StoreCopy(databases=databases, artifacts=artifacts, elsewhere=elsewhere)


def _check_source(source: Database, reader: Connection) -> None:
    """Raises InputError where there is nothing to copy, or it is not whole yet: a process may have something open."""
    if schema_version(reader) is None:
        message, remedy = f"has none of the tables of {source.kind.name}", "name the database that has them"
        raise InputError(source.field, source.shown, message, remedy)
    for name, text_of_owner in reader.execute(text(source.kind.owners)):
        owner = Owner.parse(text_of_owner.strip('"'))
        if owner is not None and not owner.is_gone():
            message = f"{source.kind.item} {name} is still open, held by process {owner.pid} of {owner.host}"
            remedy = f"let it end, or stop it; if {owner.host} is gone for good, set its status to failed"
            raise InputError(source.field, source.shown, message, remedy)
    if source.kind is RUNS and not source.place.artifacts.is_dir() and row_counts(reader)["runs"]:
        remedy = "name the folder that has; a server's is the one that --artifacts-destination named"
        raise InputError("FROM", str(source.place.folder), "has no artifacts/ for its runs", remedy)


def _check_target(source: Database, target: Database, reader: Connection, change: Change) -> None:
    """Makes the target's tables where there are none; InputError unless they can take the rows, or have them."""
    where, what = (target.field, target.shown), target.kind.name
    if source.shown == target.shown:
        raise InputError(*where, f"is where the {what} are", "name another place")
    target.make_tables()
    with target.engine.connect() as connection:
        versions = schema_version(reader), schema_version(connection)
        if versions[0] != versions[1]:
            message = f"the schema of its {what} is at {versions[1]}, of those to copy at {versions[0]}"
            raise InputError(*where, message, f"back both up, and bring both to the newest: {target.kind.upgrade}")
        if not _is_new(target, connection):
            different = _differences(contents(reader, change), contents(connection))
            if different:
                message = f"holds {what} already, and others (see its table {different[0]})"
                raise InputError(*where, message, "name a database or folder without any")


def _copy_rows(target: Database, reader: Connection, writer: Connection, change: Change) -> list[Content]:
    """Puts the rows into a new target and reads them back; one that is not new was found to have them already."""
    if not _is_new(target, writer):
        return contents(writer)
    sent = copy_tables(reader, writer, change)
    if different := _differences(sent, contents(writer)):
        raise CopyError(target.shown, f"the rows of {', '.join(different)} are not the same when read again")
    return sent


def _is_new(database: Database, connection: Connection) -> bool:
    return all(count <= (name in database.kind.new_has) for name, count in row_counts(connection).items())


def _differences(sent: list[Content], found: list[Content]) -> list[str]:
    """The tables whose rows differ."""
    there = {content.table: content for content in found}
    return [content.table for content in sent if content.table in there and content != there[content.table]]


def _roots(place: StorePlace) -> tuple[str, ...]:
    """How rows may call the folder of artifacts."""
    return place.artifacts.as_uri(), str(place.artifacts), _SERVED


def _with_new_address(table: str, row: Row, *, roots: tuple[str, ...], root: str) -> Row:
    """The row, with `root` in place of one of `roots` wherever it says where artifacts lie."""
    for column, value in row.items():
        if (table, column) in _ADDRESSES and (rest := _below(value, roots)) is not None:
            row = row | {column: root + rest}
    return row


def _below(address: str | None, roots: tuple[str, ...]) -> str | None:
    """What follows one of the roots; None where the address lies below none of them."""
    rests = [address.removeprefix(root) for root in roots if address and address.startswith(root)]
    return next((rest for rest in rests if rest == "" or (rest[0] == "/" and rest[:2] != "//")), None)


def _count_elsewhere(reader: Connection, place: StorePlace) -> int:
    addresses = reader.execute(text("SELECT artifact_uri FROM runs")).scalars()
    return sum(_below(address, _roots(place)) is None for address in addresses)


@contextmanager
def _telling_failures(target: StorePlace) -> Iterator[None]:
    """A disk or database that fails, as a CopyError."""
    try:
        yield
    except (InputError, CopyError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if isinstance(error, OSError) else store_failure(error)
        if reason is None:
            raise
        raise CopyError(str(target.folder), without_credentials(reason)) from error


def _say(what: str) -> None:
    LOG.info(f"copying {what}")
