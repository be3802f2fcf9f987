"""What a whole store can do without: found without changing a byte, and removed if asked.

Nothing that a run, a resume, a reproduction, a comparison or a champion needs is removed.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from experiments.code.code_store import CodeStore
from experiments.process.setup import prepare_process
from experiments.tracking.lifecycle import close_dead_runs
from experiments.tracking.store import Store
from experiments.upkeep.checkpoints import checkpoints
from experiments.upkeep.contents import Contents, read_contents
from experiments.upkeep.databases import databases
from experiments.upkeep.gone import artifact_folders, deleted_runs, orphans
from experiments.upkeep.item import Item, What
from experiments.upkeep.leftovers import caches, temporary
from lightning_modules import InputError
from lightning_modules.log import LOG

KINDS: tuple[What, ...] = get_args(What)

_LEAST_CODE = 65_536  # bytes: below, packing is not worth the work


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What can go, or what went."""

    items: list[Item]
    left_out: list[str]  # what was not looked at, or could not be removed, and why
    freed_bytes: int  # 0 if nothing was removed


def look(folder: str | Path, only: Collection[What] = KINDS) -> Cleaning:
    """Returns what the store in `folder` can do without. Changes nothing. Raises InputError if it is no store."""
    store = _store_at(folder)
    left_out: list[str] = []
    folders, contents = artifact_folders(store), read_contents(store, in_place=False)
    items = [
        *_files(store, folders, contents, only, left_out),
        *_databases(store, contents, only, left_out, in_place=False),
    ]
    return Cleaning(items=items, left_out=left_out, freed_bytes=0)


def clean(folder: str | Path, only: Collection[What] = KINDS) -> Cleaning:
    """Removes what the store in `folder` can do without; returns what went. Raises InputError if it is no store.

    It may be killed at any moment: what it has not removed then, it finds the next time.
    """
    _store_at(folder)
    store = Store.open(folder)
    close_dead_runs(store)
    left_out: list[str] = []
    folders, contents = artifact_folders(store), read_contents(store, in_place=True)
    gone = list(_remove(_files(store, folders, contents, only, left_out), left_out))
    gone += _remove(_databases(store, contents, only, left_out, in_place=True), left_out)
    return Cleaning(items=gone, left_out=left_out, freed_bytes=sum(item.bytes for item in gone))


def _store_at(folder: str | Path) -> Store:
    prepare_process()
    store = Store.at(folder)
    if store.is_local and not (store.folder / "mlflow.db").is_file():
        remedy = "name the folder of a store, or set MLFLOW_TRACKING_URI"
        raise InputError("--store", str(folder), "has no mlflow.db", remedy)
    return store


def _files(
    store: Store, folders: list[Path], contents: Contents, only: Collection[What], left_out: list[str]
) -> Iterator[Item]:
    """Yields everything but databases. Run files come first: what is removed of them is listed in their records."""
    if {"trial_checkpoint", "checkpoint"} & set(only):
        yield from _of_kind(checkpoints(store, contents), only)
    if store.is_local:
        yield from deleted_runs(store, contents, left_out) if "deleted_run" in only else ()
        yield from orphans(store, folders, contents) if "orphan" in only else ()
    elif {"deleted_run", "orphan"} & set(only):
        left_out.append("deleted runs and artifacts of no run: only the tracking server can remove them (mlflow gc)")
    if {"temporary", "cache"} & set(only):
        yield from _of_kind(temporary(store, contents), only)
        yield from _of_kind(caches(contents), only)
    code = CodeStore(store.folder)
    if "code" in only and (spare := code.spare_bytes()) >= _LEAST_CODE:
        yield Item(what="code", path=str(code.path), bytes=spare, remove=code.pack)


def _databases(
    store: Store, contents: Contents, only: Collection[What], left_out: list[str], *, in_place: bool
) -> Iterator[Item]:
    if "database" not in only:
        return
    if not store.is_local:
        left_out.append("the tracking database: it belongs to the server")
    if contents.has_busy_runs:
        left_out.append("the databases: a run is at work on this store")
    else:
        yield from databases(store, in_place=in_place)


def _of_kind(found: Iterator[Item], only: Collection[What]) -> Iterator[Item]:
    return (item for item in found if item.what in only)


def _remove(found: Iterator[Item], left_out: list[str]) -> Iterator[Item]:
    """Removes the items; yields those that went, and says of the others why they did not."""
    for item in list(found):
        try:
            item.remove()
        except OSError as error:
            left_out.append(f"{item.path}: {error.strerror or error}")
            LOG.warning(f"{item.path} could not be removed: {error.strerror or error}")
        else:
            yield item
