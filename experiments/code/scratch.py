"""Scratch folders in a store, each named after the process that owns it and removed at the end."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import CannotRun
from experiments.process.interrupts import uninterrupted
from experiments.process.owner import Owner


@contextmanager
def scratch_folder(scratch: Path) -> Iterator[Path]:
    """Yields a new folder in `scratch`, named after the process that owns it; the folder is removed at the end."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{Owner.current()}+".replace("/", "+"), dir=scratch))
    try:
        yield folder
    finally:
        with uninterrupted():
            _remove(folder)


def remove_leftovers(scratch: Path) -> None:
    """Removes the scratch folders of processes that were killed."""
    for folder in scratch.glob("*"):
        owner = Owner.parse(folder.name.rpartition("+")[0].replace("+", "/"))
        if owner is not None and owner.is_gone():
            _remove(folder)


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
