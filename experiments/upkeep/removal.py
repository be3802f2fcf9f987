"""Removes files from ended runs, here or on a server. Each removal is listed in the run's `removed.json` first."""

import tempfile
from collections.abc import Collection
from pathlib import Path

from experiments.artifact_names import REMOVED
from experiments.tracking.addresses import local_folder
from experiments.tracking.seal import list_removals, remove_file
from experiments.tracking.store import Store
from experiments.upkeep.contents import RunRow

Held = dict[str, tuple[str, int]]  # by name: path or address, and bytes


def held_files(store: Store, run: RunRow, names: Collection[str]) -> Held:
    """Returns those of the files that the run has. A link, or a file behind one, does not count."""
    folder = run.folder(store)
    if folder is not None:
        whole = folder.resolve()
        paths = {name: folder / name for name in sorted(names)}
        return {
            name: (str(path), path.stat().st_size)
            for name, path in paths.items()
            if path.is_file() and path.resolve() == whole / name
        }
    if local_folder(run.artifact_uri) is not None:
        return {}  # not a folder of the run's own
    folders = {str(Path(name).parent) for name in names}
    listed = [file for path in folders for file in store.client.list_artifacts(run.run_id, path.removeprefix("."))]
    sizes = {file.path: file.file_size or 0 for file in listed if not file.is_dir}
    return {name: (f"{run.artifact_uri}/{name}", sizes[name]) for name in sorted(names) if name in sizes}


def remove_from_run(store: Store, run: RunRow, names: Collection[str], now: str) -> None:
    """Removes files of an ended run. A process that is killed in between leaves them listed, and perhaps in place."""
    folder = run.folder(store)
    with store.lock("clean"):  # two processes that list removals in one file would lose some
        if folder is not None:
            list_removals(folder, names, now)
            for name in names:
                remove_file(folder, name)
            return
        with tempfile.TemporaryDirectory() as scratch:
            if any(file.path == REMOVED for file in store.client.list_artifacts(run.run_id)):
                store.client.download_artifacts(run.run_id, REMOVED, scratch)
            list_removals(Path(scratch), names, now)
            store.client.log_artifact(run.run_id, str(Path(scratch) / REMOVED))
        for name in names:
            store.delete_artifact(run.artifact_uri, name)
