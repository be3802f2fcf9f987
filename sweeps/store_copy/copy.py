"""Copies a whole store (runs, studies, artifacts) to another place, from SQLite to PostgreSQL and back."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from experiments.databases.schema import schema_version
from experiments.process.file_copy import CopiedFiles, copy_files
from experiments.process.owner import Owner
from experiments.process.presence import gone
from experiments.process.redaction import without_credentials
from experiments.tracking.addresses import ADDRESSES, below, local_folder
from experiments.tracking.store import Store, store_failure
from experiments.tracking.trust import is_trusted, own
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
    snapshot,
)

_OUTSIDE = "outside"  # in the folder of artifacts: those of runs that kept them outside of the store
_SERVED = "mlflow-artifacts:"  # an MLflow server's name for the folder given as --artifacts-destination


@dataclass(frozen=True, kw_only=True)
class StoreCopy:
    """What was copied and then compared with the source."""

    databases: dict[str, list[Content]]  # "runs" and "studies", each with its tables in the target
    artifacts: CopiedFiles
    elsewhere: int  # runs whose artifacts are outside the source's folder and could not be copied, as they are gone

    def as_dict(self) -> dict[str, Any]:
        databases = {name: [vars(table) for table in tables] for name, tables in self.databases.items()}
        return {"databases": databases, "artifacts": vars(self.artifacts), "elsewhere": self.elsewhere}


def copy_store(source: StorePlace, target: StorePlace, *, served: bool = False) -> StoreCopy:
    """Copies every row of the source's databases, every artifact and all code, to a target that has no runs yet.

    Ids stay the same. Addresses in the source's artifact folder change to the target's folder, or with `served` to an
    MLflow server's name for it. All rows are read back, compared and committed together. If the target is an unused
    copy of the source, the rows are only compared again. Raises InputError, or CopyError if the copy fails.
    """
    pairs = [(Database(kind, source, "from"), Database(kind, target, "to")) for kind in (RUNS, STUDIES)]
    pairs = [(from_, to) for from_, to in pairs if from_.exists]
    if not pairs:
        raise InputError("FROM", str(source.folder), "has neither mlflow.db nor optuna.db", "give a store's folder")
    root = _SERVED if served else target.artifacts.as_uri()
    with ExitStack() as stack, _copy_errors(target):
        readers = [stack.enter_context(snapshot(from_.engine)) for from_, _ in pairs]
        for (from_, _), reader in zip(pairs, readers, strict=True):
            _check_source(from_, reader)
        outside = _outside(readers[0], source) if pairs[0][0].kind is RUNS else {}
        new = {str(run.address): f"{root}/{_OUTSIDE}/{run_id}" for run_id, run in outside.items()}
        change = partial(_with_new_address, roots=_roots(source), root=root, new=new)
        for (from_, to), reader in zip(pairs, readers, strict=True):
            _check_target(from_, to, reader, change)
        LOG.info(f"copying artifacts to {target.artifacts}")
        artifacts = copy_files(source.artifacts, target.artifacts)
        for run_id, run in outside.items():
            copy_files(run.folder, target.artifacts / _OUTSIDE / run_id)
        copy_files(source.code, target.code)
        databases: dict[str, list[Content]] = {}
        for (_, to), reader in zip(pairs, readers, strict=True):
            LOG.info(f"copying {to.kind.name} to {to.shown}")
            databases[to.kind.name] = _copy_rows(to, reader, stack.enter_context(to.engine.begin()), change)
        elsewhere = _count_elsewhere(readers[0], source) - len(outside) if "runs" in databases else 0
    if is_trusted(Store(source.folder, f"sqlite:///{source.folder / 'mlflow.db'}")):
        own(target.folder)
    return StoreCopy(databases=databases, artifacts=artifacts, elsewhere=elsewhere)


def _check_source(source: Database, reader: Connection) -> None:
    """Raises InputError if the source has nothing to copy, or a run or trial that a process may still be writing."""
    if schema_version(reader) is None:
        message, remedy = f"has no tables for {source.kind.name}", "give the database that has them"
        raise InputError(source.field, source.shown, message, remedy)
    source.check_schema(reader)
    check_ended(source, reader)
    if source.kind is RUNS and not source.place.artifacts.is_dir() and row_counts(reader)["runs"]:
        remedy = "give the folder that contains it; a server's --artifacts-destination says where it is"
        raise InputError("FROM", str(source.place.folder), "has runs but no artifacts/", remedy)


def check_ended(source: Database, reader: Connection) -> None:
    """Raises InputError if a process may still be writing a run or a trial."""
    open_ = {name: Owner.parse(found.strip('"')) for name, found in reader.execute(text(source.kind.owners))}
    owners = {owner for owner in open_.values() if owner is not None}
    is_file = source.url is None  # else other hosts may write to it, whose leases are not in the folder
    ended = gone(owners, source.place.folder) if is_file else {each for each in owners if each.fate() == "gone"}
    for name, owner in open_.items():
        if owner is not None and owner not in ended:
            message = f"{source.kind.item} {name} is still open in {owner.shown}"
            remedy = f"let the process end, or stop it; if {owner.host} no longer exists, set the status to failed"
            raise InputError(source.field, source.shown, message, remedy)


def _check_target(source: Database, target: Database, reader: Connection, change: Change) -> None:
    """Creates missing tables in the target; raises InputError unless it has no rows or the same rows as the source."""
    where, what = (target.field, target.shown), target.kind.name
    if source.shown == target.shown:
        raise InputError(*where, f"already holds these {what}", "give another folder or database")
    target.make_tables()
    with target.engine.connect() as connection:
        target.check_schema(connection)
        if not _is_new(target, connection):
            different = _differences(contents(reader, change), contents(connection))
            if different:
                message = f"its {what} differ from the source's, for example in table {different[0]}"
                raise InputError(*where, message, f"give a folder or database without {what}")


def _copy_rows(target: Database, reader: Connection, writer: Connection, change: Change) -> list[Content]:
    """Copies the rows to a new target and reads them back. A target that is not new is known to hold the same rows."""
    if not _is_new(target, writer):
        return contents(writer)
    sent = copy_tables(reader, writer, change)
    if different := _differences(sent, contents(writer)):
        raise CopyError(target.shown, f"the rows of {', '.join(different)} differ when they are read back")
    return sent


def _is_new(database: Database, connection: Connection) -> bool:
    return all(count <= (name in database.kind.new_has) for name, count in row_counts(connection).items())


def _differences(sent: list[Content], found: list[Content]) -> list[str]:
    """Returns the names of the tables whose rows differ."""
    by_table = {content.table: content for content in found}
    return [content.table for content in sent if content.table in by_table and content != by_table[content.table]]


def _roots(place: StorePlace) -> tuple[str, ...]:
    """Returns the addresses that rows may use for the folder of artifacts."""
    return place.artifacts.as_uri(), str(place.artifacts), _SERVED


def _with_new_address(table: str, row: Row, *, roots: tuple[str, ...], root: str, new: Mapping[str, str]) -> Row:
    """Returns the row with new addresses of artifacts: `root` instead of one of `roots`, or as `new` says."""
    for column, value in row.items():
        if (table, column) in ADDRESSES and (rest := below(value, roots)) is not None:
            row = row | {column: root + rest}
        elif (table, column) == ("runs", "artifact_uri") and value in new:
            row = row | {column: new[value]}
    return row


@dataclass(frozen=True)
class _Outside:
    """A run whose artifacts are in a folder outside of the store's."""

    address: str
    folder: Path


def _outside(reader: Connection, place: StorePlace) -> dict[str, _Outside]:
    """Returns the runs, by id, with artifacts in a local folder that exists, but is not in the store."""
    found = {}
    for run_id, address in reader.execute(text("SELECT run_uuid, artifact_uri FROM runs")):
        folder = local_folder(address) if address and below(address, _roots(place)) is None else None
        if folder is not None and folder.is_dir():
            found[run_id] = _Outside(address, folder)
    return found


def _count_elsewhere(reader: Connection, place: StorePlace) -> int:
    addresses = reader.execute(text("SELECT artifact_uri FROM runs")).scalars()
    return sum(below(address, _roots(place)) is None for address in addresses)


@contextmanager
def _copy_errors(target: StorePlace) -> Iterator[None]:
    """Raises a CopyError for any error in the block that comes from a disk or a database."""
    try:
        yield
    except (InputError, CopyError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if isinstance(error, OSError) else store_failure(error)
        if reason is None:
            raise
        raise CopyError(str(target.folder), without_credentials(reason)) from error
