"""Runs that were deleted in MLflow, and artifacts that belong to no run."""

import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments.tracking.store import Store
from experiments.upkeep.contents import Contents, RunRow
from experiments.upkeep.item import Item, newest_change, remove_path, size_of

_RUN, _MODEL = re.compile("[0-9a-f]{32}"), re.compile("m-[0-9a-f]{32}")


def deleted_runs(store: Store, contents: Contents, left_out: list[str]) -> Iterator[Item]:
    """Yields the deleted runs of a store with a database of its own. Those that something needs are left alone.

    A champion's runs, runs whose model is in the registry, and runs from whose weights another run started are needed.
    """
    champions = {
        run_id for sweep, ids in contents.champions.items() if not contents.runs[sweep].is_deleted for run_id in ids
    }
    places = {folder.name: folder for folder in artifact_folders(store)}
    for run in contents.runs.values():
        is_needed = run.run_id in champions | contents.registered or contents.is_named_as_weights(run)
        if not run.is_deleted or run.is_busy or is_needed:
            continue
        if (home := _home(store, run)) is None:
            left_out.append(f"the deleted run {run.run_id}: its artifacts are not in this store (see mlflow gc)")
        else:
            # Those of other programs' runs may have their files with them, and be in use.
            models = [model for model, run_id in contents.models.items() if run.kind and run_id == run.run_id]
            folders = [home, *(places[model] for model in models if model in places)]
            remove = partial(_delete_for_good, store, run.run_id, models, folders)
            yield Item(what="deleted_run", path=str(home), bytes=sum(map(size_of, folders)), remove=remove)


def _delete_for_good(store: Store, run_id: str, models: list[str], folders: list[Path]) -> None:
    """Deletes the rows of a run and of its models, then their files.

    What a process that is killed in between leaves belongs to no run and no model.
    """
    if store.client.get_run(run_id).info.lifecycle_stage != "deleted":
        return  # it was restored meanwhile
    database = _database(store.tracking_uri, store.folder / "artifacts")
    for model in models:
        database._hard_delete_logged_model(model)  # as `mlflow gc` does
    database._hard_delete_run(run_id)
    for folder in folders:
        remove_path(folder)


@cache
def _database(tracking_uri: str, artifacts: Path) -> Any:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(tracking_uri, str(artifacts))


def _home(store: Store, run: RunRow) -> Path | None:
    """Returns the folder that holds the run's folder of artifacts; None if it is not below those of the store."""
    folder = run.folder(store)
    is_ours = folder is not None and folder.is_relative_to(store.folder / "artifacts")
    return folder.parent if folder is not None and is_ours else None


def orphans(store: Store, folders: list[Path], contents: Contents) -> Iterator[Item]:
    """Yields those of the folders that belong to no run and no model. `folders` must be older than `contents`.

    A folder that is older than the database is left alone: it belongs to another database.
    """
    for folder in folders:
        is_known = folder.name in contents.models if _MODEL.fullmatch(folder.name) else folder.name in contents.runs
        if not is_known and contents.runs and contents.began is not None and newest_change(folder) >= contents.began:
            yield Item(what="orphan", path=str(folder), bytes=size_of(folder), remove=partial(remove_path, folder))


def artifact_folders(store: Store) -> list[Path]:
    """Returns the folders of all runs and models in the store, as MLflow names them."""
    artifacts = store.folder / "artifacts"
    places = [artifacts, *(path for path in artifacts.glob("*") if path.name.isdigit())]
    return [
        folder
        for place in places
        for pattern, names in ((_RUN, "*"), (_MODEL, "models/*"))
        for folder in sorted(place.glob(names))
        if pattern.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
    ]
