"""The user's own modules: those that a config's dotted paths lead to, and what these import from the same folders."""

import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.code.loading import is_installed, watch
from experiments.code.snapshot import FLOORS, PROJECT


def own_modules(folders: Collection[Path]) -> dict[str, Path]:
    """Returns the user's files among the modules imported from `folders`, by their path below their folder."""
    floors = [PROJECT / name for name in FLOORS]
    return {
        str(path.relative_to(folder)): path
        for folder in folders
        for path in _imported_from(folder)
        if not any(path.is_relative_to(floor) for floor in floors)
    }


def own_module_names(folders: Collection[Path]) -> list[str]:
    """Returns the names of the user's modules imported from `folders`, in the order of their import."""
    own = {str(path) for path in own_modules(folders).values()}
    return [name for name, module in sys.modules.items() if getattr(module, "__file__", None) in own]


def as_loaded(path: Path) -> bytes:
    """Returns a file's bytes as this process has loaded them, or as they are now if it has not."""
    return watch().ran.get(str(path)) or path.read_bytes()


def own_folders(config: Any) -> list[Path]:
    """Returns the folders that the dotted paths in a config start from; not those of built-in and installed parts."""
    return sorted({folder for text in texts_in(config) if (folder := _own_folder(text)) is not None})


def texts_in(tree: Any) -> Iterator[str]:
    """Yields every text in a config, at any depth."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from texts_in(value)


def _own_folder(dotted_path: str) -> Path | None:
    names = dotted_path.split(".")[:-1]
    loaded = (sys.modules.get(".".join(names[:count])) for count in range(len(names), 0, -1))
    module = next((each for each in loaded if each is not None), None)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    path = Path(file)
    folder = path.parents[module.__name__.count(".") + (path.name == "__init__.py")]
    return None if is_installed(f"{folder}/") else folder


def _imported_from(folder: Path) -> list[Path]:
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    paths = [Path(file) for file in files if file.startswith(f"{folder}/") and file.endswith(".py")]
    return sorted(path for path in paths if path.is_file() and not is_installed(str(path)))
