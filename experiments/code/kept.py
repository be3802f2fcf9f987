"""The code that a run is recorded with, and whether what the process has loaded of it is the same."""

import io
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from experiments.code.code_store import CodeStore, Tree
from experiments.code.loading import blob_id, watch
from experiments.code.portable import portable
from experiments.code.snapshot import PROJECT, File, LeftOut, Snapshot, first_snapshot, take_snapshot
from experiments.errors import CannotRun
from experiments.process.redaction import is_secret_file
from experiments.recipe import recipes_read
from lightning_modules.errors import InputError
from lightning_modules.log import LOG

State = Literal["complete", "incomplete", "unknown"]

_OUTSIDE = "_outside"  # in a tree: the folder for the user's modules that are not below its root
_AUTORELOAD = "IPython.extensions.autoreload"
_SHOWN = 5  # names of changed files in a message
_NO_CODE = (".egg-info", "__pycache__")


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code of a run, as `code.git` holds it. It has the same meaning on another host with the same project."""

    commit: str | None  # None: git is not installed
    tree: Tree
    left_out: Mapping[str, LeftOut]
    prefix: str  # the project's folder below the tree's root, with a final slash; empty if they are the same
    own_folders: tuple[Path, ...]  # the folders that the user's own parts were imported from
    without: tuple[Path, ...]  # folders and files that are no code: the store and the data
    git: Mapping[str, Any] | None  # the user's checkout
    patch: bytes  # from the user's commit to the tree, for people to read
    files: Mapping[str, File] = field(default_factory=dict)  # the whole code, if there is no commit
    began: Tree | None = None  # the code that the sweep or the run began with, if this one goes on with it
    known_problems: tuple[str, ...] = ()  # why a record of this code cannot be complete
    since: float = 0.0  # files that were read before are not the run's, by time.perf_counter

    @property
    def root(self) -> Path:
        return PROJECT.parents[self.prefix.count("/") - 1] if self.prefix else PROJECT

    def as_dict(self) -> dict[str, Any]:
        """Returns what provenance.json holds."""
        return {
            "commit": self.commit,
            "sha256": self.tree.sha256,
            "files": len(self.tree.files),
            "prefix": self.prefix,
            "own_folders": [
                {"name": self._folder_name(folder), "path": portable(folder)} for folder in self.own_folders
            ],
            "left_out": {name: left_out.as_dict() for name, left_out in self.left_out.items()},
        }

    def name_of(self, path: str) -> str | None:
        """Returns a file's name in the tree; None if it has no place there."""
        for folder in (self.root, *self.own_folders):
            if path.startswith(f"{folder}/"):
                below = path.removeprefix(f"{folder}/")
                return below if folder == self.root else f"{self._folder_name(folder)}/{below}"
        return None

    def _folder_name(self, folder: Path) -> str:
        if folder.is_relative_to(self.root):
            return str(folder.relative_to(self.root))
        return f"{_OUTSIDE}/{self.own_folders.index(folder)}"

    def with_loaded(self, store: Path) -> "Code":
        """Adds what git cannot know: the user's modules outside of the root, and ignored files that were loaded."""
        added = dict(self._loaded_beside_git())
        if not added:
            return self
        tree = Tree({**self.tree.files, **Tree.of(added).files})
        if self.commit is None:
            return replace(self, tree=tree, files={**self.files, **added})
        return replace(self, tree=tree, commit=CodeStore(store).keep(added, _about(self.git), self.commit))

    def _loaded_beside_git(self) -> Iterator[tuple[str, File]]:
        watched, missing = watch(), {}
        read = watched.read_since(self.since)
        for path in (*watched.ran, *read):
            name = self.name_of(path)
            if name is not None and name not in self.tree.files and self._may_be_added(path, name):
                missing[name] = path
        inside = [name for name in missing if not is_outside(name)]
        repository = first_snapshot().repository if inside else None
        ignored = repository.ignored(inside) if repository else set(inside)
        for name, path in missing.items():
            if name not in inside or name in ignored:
                content = watched.ran[path] if path in watched.ran else _same_as_read(path, read[path])
                if content is not None:
                    yield name, File(content)

    def _may_be_added(self, path: str, name: str) -> bool:
        parts = name.split("/")
        is_code = not any(part.startswith(".") or part.endswith(_NO_CODE) for part in parts)
        is_kept_elsewhere = any(f"{path}/".startswith(f"{each}/") for each in self.without)
        is_recipe = Path(path) in recipes_read  # what it says is in config.yaml
        return is_code and not is_kept_elsewhere and not is_recipe and not is_secret_file(name)

    def disagreements(self) -> Iterator[str]:
        """Describes each file that this process has loaded, and that the tree does not hold as it was then."""
        watched = watch()
        for path, content in watched.ran.items():
            name = self.name_of(path)
            is_made_by_the_run = path in watched.written and name not in self.tree.files
            if name is None or path in watched.unknown or is_made_by_the_run:
                continue
            loaded = None if content is None else Tree.of({name: File(content)}).blob(name)
            if content is None:
                yield f"{name}: Python ran byte code that was not made from this file"
            elif name in self.left_out:
                yield f"{name}: not recorded, because {self.left_out[name].why}"
            elif self.tree.blob(name) is None:
                yield f"{name}: created after the code was recorded, and then loaded"
            elif loaded != self.tree.blob(name):
                yield f"{name}: edited after the code was recorded, and then loaded"
        for path, blob in watched.read_since(self.since).items():
            name = self.name_of(path)
            if name and blob and path not in watched.ran and self.tree.blob(name) not in (None, blob):
                yield f"{name}: edited between its record and its use"

    def state(self, problems: Collection[str]) -> State:
        """Returns `unknown` if what was loaded of an edited file is not known: see `Watched`, `_may_be_patched`."""
        if problems:
            return "incomplete"
        watched = watch()
        may_differ = watched.unknown | {path for path, content in watched.ran.items() if _may_be_patched(path, content)}
        return "unknown" if any(self.name_of(path) for path in may_differ) else "complete"

    def loaded(self) -> list[str]:
        """Returns the names of the modules that this process has loaded from the tree."""
        names = (self.name_of(path) for path in watch().ran)
        return sorted({name for name in names if name is not None and name in self.tree.files})

    def continuing(
        self, store: Path, kept: Mapping[str, Any] | None, artifacts: Path, what: str, began: str, *, may_change: bool
    ) -> "Code":
        """Returns this code for going on with what was begun with the code `kept`, which provenance.json describes.

        `what` (run, sweep or repeats) and `began` (a time) are for the message. Raises InputError if a file that this
        process has loaded was changed since, unless it `may_change`.
        """
        if kept is None or kept["commit"] is None:
            LOG.info(f"the code that the {what} began with is not known file by file; it goes on with today's")
            return self
        code_store = CodeStore(store)
        try:
            code_store.fetch(kept["commit"], artifacts)
            before = code_store.tree(kept["commit"])
        except CannotRun as error:
            LOG.warning(f"the code that the {what} began with is gone ({error.message}); it goes on with today's")
            return self
        changed = self.edited_since(before)
        if changed and not may_change:
            names = ", ".join(changed[:_SHOWN]) + (f" and {len(changed) - _SHOWN} more" if changed[_SHOWN:] else "")
            who = {"run": "its record", "sweep": "every later trial"}.get(what, "every later run")
            remedy = f"restore it, or add --code today, which goes on with today's, and {who} says so"
            raise InputError("--code", "recorded", f"{names} changed since the {what} began at {began}", remedy)
        problems = [f"{name}: edited since the run began" for name in changed] if what == "run" else []
        return replace(self, began=before, known_problems=(*self.known_problems, *problems))

    def edited_since(self, before: Tree) -> list[str]:
        """Returns the names of the loaded modules that an earlier tree does not hold, or holds in another version."""
        return [name for name in self.loaded() if before.blob(name) != self.tree.blob(name)]


def keep_code(store: Path, without: tuple[Path, ...], own_folders: tuple[Path, ...]) -> Code:
    """Puts the project's code, as this process began with it, into the store's `code.git`.

    After a process's first run, as in a notebook, files may be new, edited or loaded again. Then it is the code as it
    is now, but what is loaded as it was loaded. `without`: the folders and files of the data. `own_folders`: where the
    user's own parts were imported from.
    """
    code, watched = keep_first(store, without, own_folders), watch()
    if watched.run_ended and any(replace(code, since=watched.run_ended).disagreements()):
        return _keep(take_snapshot(PROJECT).with_loaded(watched.ran), store, without, own_folders)
    return code


@cache
def keep_first(store: Path, without: tuple[Path, ...], own_folders: tuple[Path, ...]) -> Code:
    return _keep(first_snapshot(), store, without, own_folders)


def _keep(snapshot: Snapshot, store: Path, without: tuple[Path, ...], own_folders: tuple[Path, ...]) -> Code:
    contents = snapshot.contents((store, *without))
    git, patch = None, b""
    if repository := snapshot.repository:
        changed = [
            name for name in repository.changed() if name in contents.files or not (snapshot.root / name).exists()
        ]
        patch = repository.patch(changed, {name: file.content for name, file in contents.files.items()})
        git = {**repository.as_dict(), "dirty": bool(changed)}
    code = Code(
        commit=None,
        tree=Tree.of(contents.files),
        files=contents.files,
        left_out=contents.left_out,
        prefix=snapshot.prefix,
        own_folders=own_folders,
        without=(store, *without),
        git=git,
        patch=patch,
    )
    try:
        return replace(code, commit=CodeStore(store).keep(contents.files, _about(git)), files={})
    except FileNotFoundError:
        return code


def is_outside(name: str) -> bool:
    """Whether a name in a tree is that of a file or folder of the user's that is not below the root."""
    return name.startswith(f"{_OUTSIDE}/")


def to_zip(files: Mapping[str, File]) -> bytes:
    """Returns the archive `sources.zip`; its names are sorted, and its files have one fixed date."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, file.content)
    return buffer.getvalue()


def _about(git: Mapping[str, Any] | None) -> str:
    """Returns the message of a commit: where the user's own repository was."""
    if git is None:
        return "a project without git"
    edited = ", with changes that are not committed" if git["dirty"] else ""
    return f"commit {git['commit']} of the project{edited}"


def _may_be_patched(path: str, loaded: bytes | None) -> bool:
    """Whether the file was edited while IPython's %autoreload is there, which may replace single functions."""
    if _AUTORELOAD not in sys.modules or loaded is None or not Path(path).is_file():
        return False
    return Path(path).read_bytes() != loaded


def _same_as_read(path: str, blob: str | None) -> bytes | None:
    """Returns a small file's bytes, if they are still those that were read."""
    try:
        content = Path(path).read_bytes() if blob is not None else None
    except OSError:
        return None
    return content if content is not None and blob_id(content) == blob else None
