"""`sources.zip`: the code that is in neither commit nor patch. The same code always gives the same archive."""

import io
import sys
import sysconfig
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.process.redaction import is_secret_file
from experiments.provenance.source import MAX_FILE, MAX_TOTAL, PROJECT, Checkout

_PROJECT_FILES = ("pyproject.toml", "constraints.txt")
_PROJECT_FOLDERS = ("lightning_modules", "experiments", "sweeps", "workbench")
_SUFFIXES = {".py", ".pyi", ".yaml", ".toml", ".txt"}


@dataclass(frozen=True)
class SourceCopy:
    """Files by their name in the archive: relative to the project, or `user/…` for the user's parts outside of it."""

    files: Mapping[str, bytes]
    left_out: tuple[str, ...]  # secrets, and files too large to be code

    def as_dict(self) -> dict[str, Any] | None:
        """Returns the SHA-256 of each file, and the names left out; None if there are neither."""
        if not (self.files or self.left_out):
            return None
        files = {name: sha256(content).hexdigest() for name, content in self.files.items()}
        return {"files": files, "left_out": list(self.left_out)}

    def to_zip(self) -> bytes:
        """Returns the archive; its names are sorted, and its files have one fixed date."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.files.items():
                entry = zipfile.ZipInfo(name)  # dated 1980-01-01
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, content)
        return buffer.getvalue()


def copy_sources(project: Path, checkout: Checkout | None, folders: Collection[Path]) -> SourceCopy:
    """Copies the code that `checkout` does not hold: the user's own modules, and the whole project if it is None.

    The user's own modules are those imported so far from `folders`, helpers included.
    """
    paths = _project_sources(project) if checkout is None else {}
    for folder in folders:
        own = _imported_from(folder)
        if checkout is not None:
            ignored = checkout.ignored(own)
            own = [path for path in own if path in ignored or not path.is_relative_to(checkout.root)]
        for path in own:
            inside = path.is_relative_to(project)
            paths[str(path.relative_to(project)) if inside else f"user/{path.relative_to(folder)}"] = path
    left_out = [name for name, path in paths.items() if is_secret_file(name) or path.stat().st_size > MAX_FILE]
    files = {name: _first_read(path) for name, path in sorted(paths.items()) if name not in left_out}
    size = sum(map(len, files.values()))
    if size > MAX_TOTAL:
        return SourceCopy({}, (*sorted(left_out), f"everything ({size} bytes are more than {MAX_TOTAL})"))
    return SourceCopy(files, tuple(sorted(left_out)))


def own_modules(folders: Collection[Path]) -> dict[str, Path]:
    """Returns the user's files among the modules imported from `folders`, by their path below their folder."""
    floors = [PROJECT / name for name in _PROJECT_FOLDERS]
    return {
        str(path.relative_to(folder)): path
        for folder in folders
        for path in _imported_from(folder)
        if not any(path.is_relative_to(floor) for floor in floors)
    }


def own_folders(config: Any) -> list[Path]:
    """Returns the folders that the dotted paths in a config start from; not those of built-in and installed parts."""
    return sorted({folder for text in _texts(config) if (folder := _own_folder(text)) is not None})


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _texts(value)


def _own_folder(dotted_path: str) -> Path | None:
    names = dotted_path.split(".")[:-1]
    loaded = (sys.modules.get(".".join(names[:count])) for count in range(len(names), 0, -1))
    module = next((each for each in loaded if each is not None), None)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    path = Path(file)
    folder = path.parents[module.__name__.count(".") + (path.name == "__init__.py")]
    return None if _is_installed(folder / "any.py") else folder


def _imported_from(folder: Path) -> list[Path]:
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    paths = [Path(file) for file in files if file.startswith(f"{folder}/") and file.endswith(".py")]
    return sorted(path for path in paths if path.is_file() and not _is_installed(path))


def _is_installed(path: Path) -> bool:
    library = sysconfig.get_path("stdlib")
    return path.is_relative_to(library) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _project_sources(project: Path) -> dict[str, Path]:
    paths = [project / name for name in _PROJECT_FILES]
    paths += [path for folder in _PROJECT_FOLDERS for path in (project / folder).rglob("*")]
    return {
        str(path.relative_to(project)): path
        for path in paths
        if path.suffix in _SUFFIXES and path.is_file() and not path.is_symlink()
    }


@cache
def _first_read(path: Path) -> bytes:
    """Returns the file as it was at the first call: this process does not run code that is edited later."""
    return path.read_bytes()
