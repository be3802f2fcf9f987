"""`code.git`: a bare git repository of the store's own, with one commit for each distinct state of the code.

Its objects are named by SHA-256, and each holds a file's bytes as they were: no filter, no conversion of line ends, no
symbolic links. The user's repository is not needed to read it, and nothing is written there.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

from filelock import FileLock

from experiments.artifact_names import CODE_BUNDLE
from experiments.code.loading import blob_id
from experiments.code.snapshot import File
from experiments.errors import Altered, CannotRun

_MODES = {"100644": False, "100755": True}  # git's modes of a file: whether it may be executed
# The repository's own settings, whoever made the store: git runs no hooks, fetches nothing and compacts nothing.
_CONFIG = """[core]
	repositoryformatversion = 1
	bare = true
	hooksPath = /dev/null
[extensions]
	objectFormat = sha256
[gc]
	auto = 0
"""
# Git ignores the settings and attributes of the user and the machine: what it does is the same for everybody.
NO_SETTINGS = {
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "LC_ALL": "C",
}


@dataclass(frozen=True)
class Tree:
    """The names of all files of one state of the code, each with its blob id and whether it may be executed."""

    files: Mapping[str, tuple[str, bool]]

    @classmethod
    def of(cls, files: Mapping[str, File]) -> "Tree":
        return cls({name: (blob_id(file.content), file.is_executable) for name, file in files.items()})

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the sorted lines `mode blob name`."""
        lines = sorted(f"{_mode(is_executable)} {blob} {name}\n" for name, (blob, is_executable) in self.files.items())
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def blob(self, name: str) -> str | None:
        return self.files[name][0] if name in self.files else None


class CodeStore:
    """The repository in a store's folder. It is made when something is first kept."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "code.git"
        self._lock = FileLock(folder / ".code.lock")

    def keep(self, files: Mapping[str, File], about: str, base: str | None = None) -> str:
        """Returns the commit with exactly these files, or with those of the commit `base` too; makes it if needed.

        Its message is `about`, its date 1970-01-01. Raises FileNotFoundError if git is not installed.
        """
        before = self.tree(base).files if base else {}
        ref = f"refs/code/{Tree({**before, **Tree.of(files).files}).sha256}"
        if self.path.exists() and (found := self._find(ref)):
            return found
        with self._lock:
            self._make()
            if not self._find(ref):
                self._git("fast-import", "--quiet", "--done", stdin=_stream(ref, files, about, self._root_of(base)))
            found = self._find(ref)
        assert found is not None
        return found

    def tree(self, commit: str) -> Tree:
        """Returns what a commit holds. Raises CannotRun if it is missing, Altered if its names are not acceptable."""
        if not self.path.exists():
            raise CannotRun(f"the store has no {self.path.name}", "restore it, or start a new run")
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit)
        files = {}
        for line in filter(None, listed.split(b"\0")):
            head, _, name = os.fsdecode(line).partition("\t")
            mode, _, blob = head.split()
            if mode not in _MODES or not is_inside(name):
                raise Altered(f"{name!r} in {self.path.name} is outside the checkout, or not a file")
            files[name] = (blob, _MODES[mode])
        return Tree(files)

    def read(self, tree: Tree) -> Iterator[tuple[str, File]]:
        """Yields the files of a tree. Raises Altered if the bytes are not those that the tree names."""
        asked = "".join(f"{blob}\n" for blob, _ in tree.files.values()).encode()
        answer = memoryview(self._git("cat-file", "--batch", stdin=asked))
        start = 0
        for name, (blob, is_executable) in tree.files.items():
            end = start + bytes(answer[start : start + 200]).index(b"\n")
            head = bytes(answer[start:end]).decode().split()
            if head[1:2] != ["blob"]:
                raise CannotRun(f"{self.path.name} lacks {name}", "restore it from a backup")
            content = bytes(answer[end + 1 : end + 1 + int(head[2])])
            if blob_id(content) != blob:
                raise Altered(f"{name} in {self.path.name} was changed after the run")
            yield name, File(content, is_executable)
            start = end + 2 + int(head[2])

    def bundle(self, commit: str, target: Path) -> None:
        """Writes the commit as a git bundle, for a store that keeps artifacts on a server."""
        ref = f"refs/code/{self.tree(commit).sha256}"
        self._git("bundle", "create", "--quiet", str(target), ref)

    def fetch(self, commit: str, artifacts: Path) -> None:
        """Adds what the bundle in the folder `artifacts` holds, if the commit is missing."""
        if not (artifacts / CODE_BUNDLE).exists() or (self.path.exists() and self.has(commit)):
            return
        with self._lock:
            self._make()
            self._git("fetch", "--quiet", "--no-tags", str(artifacts / CODE_BUNDLE), "+refs/code/*:refs/code/*")

    def has(self, commit: str) -> bool:
        try:
            self._git("cat-file", "-e", f"{commit}^{{commit}}")
        except CannotRun:
            return False
        return True

    def spare_bytes(self) -> int:
        """Returns by how much `pack` makes the repository smaller; 0 if it is packed. Reads all of it."""
        if not self.path.exists():
            return 0
        objects = self.path / "objects"
        now = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
        packs = len(list((objects / "pack").glob("*.pack")))
        if packs + len(list(objects.glob("??"))) < 2:
            return 0
        packed = self._git("pack-objects", "--all", "--stdout", "--delta-base-offset", "--quiet")
        return max(0, now - len(packed))

    def pack(self) -> None:
        """Puts all objects into one pack: no object is dropped. Git removes the old packs when the new one is whole."""
        with self._lock:
            self._git("repack", "-a", "-d", "--keep-unreachable", "--quiet")
            self._git("prune-packed", "--quiet")

    def unfinished(self) -> list[Path]:
        """Returns the files of a git process that was killed; or of one that is at work, unless the lock is held."""
        return sorted((self.path / "objects").glob("**/tmp_*"))

    def remove_unfinished(self) -> None:
        with self._lock:
            for leftover in self.unfinished():
                leftover.unlink()

    def _root_of(self, commit: str | None) -> str | None:
        return commit and os.fsdecode(self._git("rev-parse", f"{commit}^{{tree}}")).strip()

    def _find(self, ref: str) -> str | None:
        loose = self.path / ref
        if loose.exists():
            return loose.read_text(encoding="ascii").strip()
        return os.fsdecode(self._git("for-each-ref", "--format=%(objectname)", ref)).strip() or None

    def _make(self) -> None:
        if not self.path.exists():
            new = self.path.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            command = ["git", "init", "--quiet", "--bare", "--template=", "--object-format=sha256", str(new)]
            subprocess.run(command, env=_environment(), check=True, capture_output=True)
            (new / "config").write_text(_CONFIG)
            new.rename(self.path)

    def _git(self, *words: str, stdin: bytes = b"") -> bytes:
        config = self.path / "config"
        if self.path.is_symlink() or (self.path / "commondir").exists():
            raise Altered(f"{self.path} is not the workbench's own repository")
        if not config.is_file() or config.is_symlink() or config.read_text(encoding="utf-8") != _CONFIG:
            config.unlink(missing_ok=True)
            config.write_text(_CONFIG, encoding="utf-8")
        command = ["git", f"--git-dir={self.path}", *words]
        done = subprocess.run(command, env=_environment(), input=stdin, capture_output=True)
        if done.returncode:
            reason = " ".join(done.stderr.decode(errors="replace").split())
            raise CannotRun(f"{self.path} cannot be used: {reason}", "restore it from a backup")
        return done.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | NO_SETTINGS


def _stream(ref: str, files: Mapping[str, File], about: str, root: str | None) -> bytes:
    """Returns the commit in the language of git fast-import, which stores equal files once."""
    message = about.encode(errors="surrogateescape")
    parts = [b"commit %s\ncommitter workbench <> 0 +0000\ndata %d\n%s\n" % (ref.encode(), len(message), message)]
    if root is not None:
        parts.append(b'M 040000 %s ""\n' % root.encode())
    for name, file in files.items():
        quoted = os.fsencode(name).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
        mode = _mode(file.is_executable).encode()
        parts.append(b'M %s inline "%s"\ndata %d\n%s\n' % (mode, quoted, len(file.content), file.content))
    return b"".join([*parts, b"done\n"])


def _mode(is_executable: bool) -> str:
    return next(mode for mode, executes in _MODES.items() if executes == is_executable)


def is_inside(name: str) -> bool:
    """Whether a file of this name lies in the folder that it is written to, and not in a `.git` there."""
    path = PurePosixPath(name)
    return not path.is_absolute() and not {"..", ".git"} & {part.lower() for part in path.parts}
