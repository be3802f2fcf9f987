"""The project's files: its Python files as they were when this process began, all others as they are when recorded."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from experiments.artifact_names import PAGE_MARK
from experiments.code.repository import Repository, find_repository
from experiments.process.redaction import holds_credentials, is_secret_file
from lightning_modules.errors import InputError
from lightning_modules.images.remembered import known_sha256

PROJECT = Path(__file__).resolve().parents[2]
_LIMITS = {"WORKBENCH_CODE_FILE_MB": 5, "WORKBENCH_CODE_MB": 50}  # of one file, and of all
_MB = 10**6  # bytes
FLOORS = ("lightning_modules", "experiments", "sweeps", "workbench")
_MOST_NAMED = 1000  # files beyond the limits that are hashed and named
_STORES = ("mlflow.db", "code.git/HEAD")  # a folder with a `.lock` and one of these is a store
_HEAD = 500  # bytes at the beginning of a page, where PAGE_MARK is
_MOST_LINKED = 2000  # files in a folder outside the project that a symbolic link leads to


@dataclass(frozen=True)
class File:
    """A file's bytes, and whether it may be executed."""

    content: bytes
    is_executable: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A file that is not recorded. A later run of the code can use it if it is still there, with the same SHA-256."""

    why: str
    sha256: str | None = None  # None: it holds credentials, or cannot be read
    bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Contents:
    """The files to record, by their name below the root, and those that are left out."""

    files: Mapping[str, File] = field(default_factory=dict)
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The project at one moment."""

    root: Path
    repository: Repository | None  # None: the project is no git checkout
    names: tuple[str, ...]  # of all files, relative to the root; a symbolic link has one of its own
    modules: Mapping[str, File]  # the Python files among them, as they were at that moment

    @property
    def prefix(self) -> str:
        """The project's folder below the root, with a final slash; empty if they are the same."""
        return self.repository.prefix if self.repository else ""

    def with_loaded(self, ran: Mapping[str, bytes | None]) -> "Snapshot":
        """Returns the project with its Python files as this process has loaded them, by their absolute paths."""
        loaded = {name: ran.get(str(self.root / name)) for name in self.modules}
        as_loaded = {
            name: File(new, self.modules[name].is_executable) for name, new in loaded.items() if new is not None
        }
        return replace(self, modules={**self.modules, **as_loaded})

    def contents(self, without: Iterable[Path] = ()) -> Contents:
        """Reads the other files now. Leaves out those below the folders or files `without`, and does not name them.

        Also leaves out what the workbench itself has written: other stores, and pages such as that of a comparison. A
        folder that the project itself lies in is not left out.
        """
        skipped = tuple(f"{path}/" for path in (*without, *self._stores()) if not self.root.is_relative_to(path))
        left_out: dict[str, LeftOut] = {}
        found: dict[str, tuple[Path, int]] = {}
        for name, path in self._paths():
            if f"{path}/".startswith(skipped) or f"{path.resolve()}/".startswith(skipped):
                continue
            if is_secret_file(name):
                left_out[name] = LeftOut("it looks like a secret")
                continue
            try:
                status = path.stat()
            except OSError:
                continue  # removed, or a link to nothing
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                if name.endswith(".html") and _is_page(path):
                    continue
                found[name] = (path, status.st_size)
            else:
                left_out[name] = LeftOut("it is not a file that can be read")
        beyond = _beyond_limits({name: size for name, (_, size) in found.items()})
        kept = {name: path for name, (path, _) in found.items() if name not in beyond}
        for name in sorted(beyond)[:_MOST_NAMED]:
            path, size = found[name]
            left_out[name] = LeftOut(beyond[name], known_sha256(path), size)
        if len(beyond) > _MOST_NAMED:
            left_out[f"and {len(beyond) - _MOST_NAMED} more files"] = LeftOut("more than the limits allow")
        files = {name: self.modules.get(name) or _read(path) for name, path in kept.items()}
        secret = {name for name, file in files.items() if holds_credentials(file.content)}
        left_out |= {name: LeftOut("it holds a password that this process uses") for name in secret}
        return Contents({name: file for name, file in files.items() if name not in secret}, left_out)

    def _stores(self) -> list[Path]:
        """Returns the stores in folders below the root."""
        names = set(self.names)
        locked = [name.removesuffix("/.lock") for name in names if name.endswith("/.lock")]
        return [self.root / folder for folder in locked if any(f"{folder}/{each}" in names for each in _STORES)]

    def _paths(self) -> Iterator[tuple[str, Path]]:
        """Yields names and paths; for a link to a folder, those of the files in it."""
        for name in self.names:
            path = self.root / name
            if not (path.is_symlink() and path.is_dir()):
                yield name, path
                continue
            target = path.resolve()
            if target.is_relative_to(self.root):
                inside = f"{target.relative_to(self.root)}/"
                below = [each.removeprefix(inside) for each in self.names if each.startswith(inside)]
            else:
                found = [each for each, _ in zip(_walk(target), range(_MOST_LINKED + 1), strict=False)]
                below = found if len(found) <= _MOST_LINKED else [""]
            yield from ((f"{name}/{each}".rstrip("/"), path / each) for each in below)


@cache
def first_snapshot() -> Snapshot:
    """Returns the project as it was at the first call in this process; later code of the process comes from it."""
    return take_snapshot(PROJECT)


def take_snapshot(project: Path) -> Snapshot:
    """Returns the project as it is now."""
    repository = find_repository(project)
    root = repository.root if repository else project
    names = repository.files() if repository else sorted(_project_files(project))
    modules: dict[str, File] = {}
    for name in names:
        path, large = root / name, _limit("WORKBENCH_CODE_FILE_MB")
        if name.endswith(".py") and not is_secret_file(name) and path.is_file() and path.stat().st_size <= large:
            modules[name] = _read(path)
    return Snapshot(root=root, repository=repository, names=tuple(names), modules=modules)


def _project_files(project: Path) -> Iterator[str]:
    """Yields the files of a project without git: all below its folder, or only its own if it is installed."""
    if "site-packages" in project.parts:
        for floor in FLOORS:
            yield from (f"{floor}/{name}" for name in _walk(project / floor))
    else:
        yield from _walk(project)


def _walk(folder: Path) -> Iterator[str]:
    """Yields the files below a folder, without hidden folders, byte code and what an installation leaves."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            each for each in folders if not each.startswith(".") and not each.endswith(("__pycache__", ".egg-info"))
        ]
        linked = [each for each in folders if (Path(parent) / each).is_symlink()]
        yield from (str((Path(parent) / each).relative_to(folder)) for each in sorted(files + linked))


def _read(path: Path) -> File:
    return File(path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))


def _is_page(path: Path) -> bool:
    """Whether the workbench has written this HTML file."""
    with path.open("rb") as file:
        return PAGE_MARK.encode() in file.read(_HEAD)


def _beyond_limits(sizes: Mapping[str, int]) -> dict[str, str]:
    """Returns the names beyond the limits, each with what widens them: large files, then the largest but Python's."""
    one, most = _limit("WORKBENCH_CODE_FILE_MB"), _limit("WORKBENCH_CODE_MB")
    beyond = {
        name: f"more than {one // _MB} MB; to record it: export WORKBENCH_CODE_FILE_MB={size // _MB + 1}"
        for name, size in sizes.items()
        if size > one
    }
    needed = total = sum(size for name, size in sizes.items() if name not in beyond)
    why = f"more than {most // _MB} MB in total; to record it: export WORKBENCH_CODE_MB={needed // _MB + 1}"
    for name in sorted(sizes.keys() - beyond, key=lambda name: (name.endswith(".py"), -sizes[name], name)):
        if total <= most:
            break
        beyond[name] = why
        total -= sizes[name]
    return beyond


def _limit(variable: str) -> int:
    text = os.environ.get(variable, str(_LIMITS[variable]))
    if not text.isdigit():
        raise InputError(
            variable, text, "is not a whole number of megabytes", f"write {_LIMITS[variable]}, or unset it"
        )
    return int(text) * _MB
