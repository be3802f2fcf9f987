"""Scratch folders in a store, each named after the process that owns it and removed at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from experiments.errors import CannotRun
from experiments.process.interrupts import uninterrupted
from experiments.process.owner import Owner
from experiments.process.presence import gone, present

_SHARED = "workbench+"  # begins the names of folders where other programs have theirs, too


@contextmanager
def scratch_folder(scratch: Path, prefix: str = "") -> Iterator[Path]:
    """Yields a new folder in `scratch`, named after the process that owns it; the folder is removed at the end.

    `prefix`: begins the name, where others have folders, too.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    if not prefix:
        present(scratch.parent)  # the store
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{Owner.current()}+".replace("/", "+"), dir=scratch))
    try:
        yield folder
    finally:
        with uninterrupted():
            _remove(folder)


def remove_leftovers(scratch: Path) -> None:
    """Removes the scratch folders of processes that were killed."""
    for folder in leftovers(scratch):
        _remove(folder)


def leftovers(scratch: Path, prefix: str = "") -> Iterator[Path]:
    """Yields this user's scratch folders of processes that were killed. May take `presence.WATCH` seconds."""
    owners = {
        folder: owner
        for folder in sorted(scratch.glob(f"{prefix}*"))
        if (owner := Owner.parse(folder.name.removeprefix(prefix).rpartition("+")[0].replace("+", "/"))) is not None
    }
    if prefix:  # on a disk of this machine, and often in its memory
        ended = {owner for owner in owners.values() if owner.fate() == "gone" or owner.boot != Owner.current().boot}
    else:
        ended = gone(set(owners.values()), scratch.parent)
    for folder, owner in owners.items():
        with suppress(OSError):  # the folder has just been removed
            if owner in ended and folder.lstat().st_uid == os.getuid():
                yield folder


def shared_folder() -> AbstractContextManager[Path]:
    """Returns a new scratch folder for data that several processes map; where possible, its files are in memory."""
    return scratch_folder(_memory_folder(), _SHARED)


def shared_leftovers() -> Iterator[Path]:
    """Yields this user's shared folders of processes that were killed."""
    return leftovers(_memory_folder(), _SHARED)


def _memory_folder() -> Path:
    return Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())


def write_inside(code: Path, name: str, content: bytes, *, is_executable: bool = False) -> None:
    """Writes the file `name` below the folder `code`. Raises CannotRun if it would be outside that folder."""
    target = code / name
    if not target.resolve().is_relative_to(code.resolve()):  # through a symbolic link in the commit
        raise CannotRun(f"{name!r} in the run's sources is outside its checkout", "inspect its sources.zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if is_executable:
        target.chmod(0o755)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # the next process's remove_leftovers tries again
