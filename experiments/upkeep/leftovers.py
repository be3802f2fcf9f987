"""Files of processes that were killed, and caches. What a living process uses is left alone."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from experiments.code.code_store import CodeStore
from experiments.code.scratch import leftovers, shared_leftovers
from experiments.process import presence
from experiments.tracking.seal import UNFINISHED
from experiments.tracking.store import Store
from experiments.upkeep.contents import Contents
from experiments.upkeep.item import Item, remove_path, size_of
from experiments.upkeep.removal import held_files, remove_from_run
from lightning_modules import InputError
from lightning_modules.datasets.base import SourceOptions
from lightning_modules.images.picture_cache import FOLDER, INDEX, PIXELS
from lightning_modules.images.remembered import FOLDER as REMEMBERED
from lightning_modules.images.remembered import cache_folder

_DAY = 24 * 3600.0


def temporary(store: Store, contents: Contents) -> Iterator[Item]:
    """Yields what killed processes have left behind: in runs' folders, in the store, and in memory."""
    now = datetime.now().isoformat(timespec="seconds")
    for run in contents.runs.values():
        if not (run.is_busy or run.is_deleted) and run.folder(store) is not None:
            for name, (place, size) in held_files(store, run, UNFINISHED).items():
                remove = partial(remove_from_run, store, run, [name], now)
                yield Item(what="temporary", path=place, bytes=size, remove=remove)
    for path in _of_the_store(store, contents):
        yield Item(what="temporary", path=str(path), bytes=size_of(path), remove=partial(remove_path, path))
    code = CodeStore(store.folder)
    for path in code.unfinished():
        yield Item(what="temporary", path=str(path), bytes=size_of(path), remove=code.remove_unfinished)


def _of_the_store(store: Store, contents: Contents) -> Iterator[Path]:
    yield from presence.leftovers(store.folder)
    yield from leftovers(store.folder / "scratch")
    yield from shared_leftovers()
    for suffix in (".fetched", ".sent", ".new"):
        for path in store.spool.glob(f"*{suffix}"):
            run = contents.runs.get(path.stem)
            if run is not None and not run.is_busy:
                yield path
    for new, made in (("mlflow.db.new*", "mlflow.db"), ("code.new", "code.git")):
        if (store.folder / made).exists():  # nobody makes it again
            yield from store.folder.glob(new)
    for home in (store.folder / "environments").glob("*"):
        if home.is_dir() and not (home / "ready").exists() and _is_old(home):
            yield home


def caches(contents: Contents) -> Iterator[Item]:
    """Yields decoded pictures that no process has in memory, and remembered values. Both are made again when needed.

    Only on Linux it is known what a process has in memory; elsewhere decoded pictures are left alone.
    """
    for folder in (cache_folder() / REMEMBERED, cache_folder() / "hashes"):
        if size := size_of(folder):
            yield Item(what="cache", path=str(folder), bytes=size, remove=partial(remove_path, folder))
    used = _mapped_files()
    for folder in sorted(_picture_folders(contents)):
        for pixels in sorted(folder.glob(f"*{PIXELS}")):
            if used is not None and pixels.name not in used:
                size = size_of(pixels) + size_of(pixels.with_suffix(INDEX))
                remove = partial(_remove_unused, pixels)
                yield Item(what="cache", path=str(pixels), bytes=size, remove=remove)
        for part in sorted(folder.glob("*.part")):
            if _is_old(part):
                yield Item(what="temporary", path=str(part), bytes=size_of(part), remove=partial(remove_path, part))


def _picture_folders(contents: Contents) -> set[Path]:
    """Returns the folders with decoded pictures: the usual one, and those beside the data of the store's runs."""
    roots = {run.params.get("data.root") for run in contents.runs.values() if run.params.get("data.source")}
    folders = set()
    for root in {None, *roots - {"null", "None"}}:
        with suppress(InputError):  # the folder is gone
            folders.add(SourceOptions(root=root and str(Path(root).expanduser())).folder() / FOLDER)
    return {folder for folder in folders if folder.is_dir()}


def _mapped_files() -> set[str] | None:
    """Returns the names of the files that processes have mapped into memory; None if they are not known."""
    if not Path("/proc/self/maps").exists():
        return None
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # it has ended, or belongs to another user: Linux keeps what it has mapped
            found |= {line.rpartition("/")[2] for line in maps.read_text(errors="replace").splitlines()}
    return found


def _is_old(path: Path) -> bool:
    """Whether nobody has written to the file or folder for a day: on another host, a process may be at work."""
    try:
        return time.time() - path.stat().st_mtime > _DAY
    except OSError:
        return False


def _remove_unused(pixels: Path) -> None:
    """Removes decoded pictures and their index, unless a process has mapped them meanwhile."""
    if pixels.name not in (_mapped_files() or ()):
        for path in (pixels.with_suffix(INDEX), pixels):
            path.unlink(missing_ok=True)
