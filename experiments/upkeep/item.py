"""One thing that a store can do without."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

What = Literal[
    "trial_checkpoint",  # of a trial whose sweep has its finalists
    "checkpoint",  # one that its finished run does not keep
    "deleted_run",  # the rows and artifacts of a run that was deleted in MLflow
    "orphan",  # artifacts of no run
    "temporary",  # left by a process that was killed
    "cache",  # made again when it is needed
    "code",  # code.git, packed
    "database",  # free pages, and a write-ahead log
]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A thing to remove. `remove` may raise OSError, and does nothing if the thing is gone."""

    what: What
    path: str  # of a file or folder, or the address of an artifact on a server
    bytes: int  # what its removal frees
    remove: Callable[[], None]

    def as_dict(self) -> dict[str, Any]:
        return {"what": self.what, "path": self.path, "bytes": self.bytes}


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files below a folder; 0 if it is gone."""
    return sum(size for size, _ in _files(path))


def newest_change(folder: Path) -> float:
    """Returns when the folder, or a file below it, was last changed, in seconds since 1970."""
    return max((changed for _, changed in _files(folder)), default=folder.stat().st_mtime)


def remove_path(path: Path) -> None:
    """Removes a file, a link, or a whole folder; nothing if it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> Iterator[tuple[int, float]]:
    """Yields size and time of the last change of the files below; follows no links."""
    paths = [path] if path.is_file() or path.is_symlink() else path.rglob("*")
    for each in paths:
        try:
            found = os.lstat(each)
        except OSError:  # another process has just removed it
            continue
        if not each.is_dir() or each.is_symlink():
            yield found.st_size, found.st_mtime
