"""Paths as records hold them: without the place and the user of this machine, as far as possible."""

import os
from pathlib import Path

from experiments.code.snapshot import PROJECT


def portable(path: str | Path) -> str:
    """Returns a path relative to the project, such as `../data`. One elsewhere in the user's home begins with `~`.

    Only a path that has no folder in common with the project, such as `/mnt/data`, stays absolute.
    """
    path, home = Path(path), Path.home()
    if not path.is_relative_to(PROJECT):
        if path.is_relative_to(home) and home != Path("/"):
            return str("~" / path.relative_to(home))
        if path.parts[1:2] != PROJECT.parts[1:2]:
            return str(path)
    return os.path.relpath(path, PROJECT)


def located(path: str) -> Path:
    """Returns the absolute path that `portable` has written, for this project and this user."""
    return Path(os.path.normpath(PROJECT / Path(path).expanduser()))
