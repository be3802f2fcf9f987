"""The code of a past run, unpacked into a scratch folder: from `code.git`, or wherever an earlier version kept it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.artifact_names import PATCH, SOURCES
from experiments.code.code_store import CodeStore, Tree
from experiments.code.earlier import earlier_code, unpack
from experiments.code.kept import is_outside
from experiments.code.portable import located
from experiments.code.scratch import scratch_folder, write_inside
from experiments.code.snapshot import PROJECT, first_snapshot
from experiments.errors import Altered, CannotRun
from lightning_modules.images.remembered import known_sha256


@dataclass(frozen=True)
class Unpacked:
    """The project's code in a scratch folder."""

    folder: Path
    imports: tuple[Path, ...]  # the folders to import from, in this order
    root: Path  # the folder of all code that was kept, the user's own beside the project included


@dataclass(frozen=True)
class RecordedCode:
    """The code of one run. `provenance` is its provenance.json; `artifacts` has its other artifacts."""

    store: Path
    provenance: Mapping[str, Any]
    artifacts: Path

    @property
    def _kept(self) -> Mapping[str, Any] | None:
        """What provenance.json says of `code.git`; None for runs of earlier versions."""
        kept: Mapping[str, Any] | None = self.provenance.get("code")
        return kept

    @property
    def version(self) -> str:
        """A text that is equal for equal code, as far as the record shows."""
        if self._kept is not None:
            return f"code {self._kept['sha256'][:12]}"
        git, sources = self.provenance["git"], self.provenance["sources"]
        words = [f"commit {git['commit']}"] if git else []
        patch = self.artifacts / PATCH
        if git and git["dirty"] and patch.exists():
            words.append(f"patch {sha256(patch.read_bytes()).hexdigest()[:12]}")
        if sources:
            words.append(f"sources {sha256(repr(sorted(sources['files'].items())).encode()).hexdigest()[:12]}")
        return " + ".join(words) or "unknown"

    def tree(self) -> Tree:
        """Returns the names of the files in `code.git`. Raises CannotRun if they are missing, Altered if changed."""
        assert self._kept is not None
        code_store = CodeStore(self.store)
        code_store.fetch(self._kept["commit"], self.artifacts)
        tree = code_store.tree(self._kept["commit"])
        if tree.sha256 != self._kept["sha256"]:
            raise Altered("provenance.json and code.git disagree on the code")
        return tree

    def check(self) -> None:
        """Raises Altered if a file in `code.git` does not have the recorded bytes, CannotRun if one is missing."""
        if self._kept is not None and self._kept["commit"] is not None:
            for _ in CodeStore(self.store).read(self.tree()):
                pass

    def names(self) -> list[str]:
        """Returns the names of all recorded files that this version can list without unpacking them."""
        kept = self._kept
        return list(self.tree().files) if kept is not None and kept["commit"] is not None else []

    @contextmanager
    def unpacked(self) -> Iterator[Unpacked]:
        """Yields the code as it was recorded; removes it at the end. Raises CannotRun if it is not available."""
        scratch, kept = self.store / "scratch", self._kept
        if kept is None:
            git = self.provenance["git"]
            with earlier_code(scratch, PROJECT, git and git["commit"], self.artifacts) as code:
                yield Unpacked(code, (code, code / "user", *self._own_folders_inside(code)), code)
        elif kept["commit"] is None:
            with unpack(scratch, self.artifacts / SOURCES) as root:
                yield self._of_root(root, kept)
        else:
            tree = self.tree()
            with scratch_folder(scratch) as root:
                for name, file in CodeStore(self.store).read(tree):
                    write_inside(root, name, file.content, is_executable=file.is_executable)
                self._bring_what_was_left_out(root, kept)
                yield self._of_root(root, kept)

    @contextmanager
    def todays(self) -> Iterator[Unpacked]:
        """Yields a copy of today's code, with today's version of the recorded files that git ignores."""
        snapshot = first_snapshot()
        with scratch_folder(self.store / "scratch") as root:
            written = snapshot.contents([self.store]).files
            for name, file in written.items():
                write_inside(root, name, file.content, is_executable=file.is_executable)
            code = root / snapshot.prefix
            for name in self._recorded_names():
                today = self._today(name, snapshot.root)
                if name not in written and today.is_file():
                    write_inside(root, name, today.read_bytes())
            imports = (code, *self._own_folders_today(root, snapshot.root))
            yield Unpacked(code, imports, code if self._kept is None else root)

    def _of_root(self, root: Path, kept: Mapping[str, Any]) -> Unpacked:
        code = root / kept["prefix"]
        for folder in (code, *(root / folder["name"] for folder in kept["own_folders"])):
            if not (folder.is_dir() and folder.resolve().is_relative_to(root.resolve())):
                raise CannotRun(f"its code has no folder {os.path.relpath(folder, root)}", "start a new run")
        return Unpacked(code, (code, *(root / folder["name"] for folder in kept["own_folders"])), root)

    def _bring_what_was_left_out(self, root: Path, kept: Mapping[str, Any]) -> None:
        """Links the files that were only hashed, where today's project has them with the same SHA-256."""
        today = first_snapshot().root
        for name, left_out in kept["left_out"].items():
            path = today / name
            if left_out["sha256"] and path.is_file() and path.stat().st_size == left_out["bytes"]:
                target = root / name
                if target.resolve().is_relative_to(root.resolve()) and known_sha256(path) == left_out["sha256"]:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(path.resolve())

    def _recorded_names(self) -> list[str]:
        if self._kept is None:
            prefix = first_snapshot().prefix
            return [f"{prefix}{name}" for name in (self.provenance["sources"] or {"files": ()})["files"]]
        return self.names()

    def _own_folders_inside(self, code: Path) -> list[Path]:
        """Returns the user's folders that an earlier version recorded by absolute path, if the checkout has them."""
        project, folders = self.provenance["project"], self.provenance["own_folders"]
        moved = [Path(os.path.normpath(code / os.path.relpath(folder, project))) for folder in folders]
        return [folder for folder in moved if folder.is_relative_to(self.store / "scratch")]

    def _today(self, name: str, root: Path) -> Path:
        """Returns where a recorded file is today."""
        for folder in self._kept["own_folders"] if self._kept is not None else ():
            if is_outside(folder["name"]) and name.startswith(f"{folder['name']}/"):
                return located(folder["path"]) / name.removeprefix(f"{folder['name']}/")
        return root / name

    def _own_folders_today(self, root: Path, today: Path) -> Iterator[Path]:
        """Yields the user's folders of today: their copies in `root` first, then those outside of the project."""
        if self._kept is None:
            folders = [Path(folder) for folder in self.provenance["own_folders"]]
        else:
            folders = [located(folder["path"]) for folder in self._kept["own_folders"]]
            yield from (root / folder["name"] for folder in self._kept["own_folders"])
        yield from (folder for folder in folders if not folder.is_relative_to(today))
        if self._kept is None:
            yield from (root / folder.relative_to(today) for folder in folders if folder.is_relative_to(today))
