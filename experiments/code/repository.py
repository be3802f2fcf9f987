"""The user's git repository, which is only read: its commit, its files, and a patch with what is not committed."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.process.redaction import without_credentials

# Git sets these for its hooks; they would lead to another repository than the project's.
_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
# Git takes no lock, fetches nothing, and splits no index: each of these would write to the user's repository.
_READ_ONLY = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
_LARGEST_PATCH = 10_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A git checkout that holds the project."""

    root: Path
    prefix: str  # the project's folder below the root, with a final slash; empty if they are the same
    commit: str
    branch: str  # HEAD if no branch is checked out
    remote: str | None  # URL of origin, or else of the first remote; without credentials

    def as_dict(self) -> dict[str, Any]:
        return {"commit": self.commit, "branch": self.branch, "remote": self.remote, "prefix": self.prefix}

    def files(self) -> list[str]:
        """Returns the names of all files below the root that git does not ignore.

        Those in submodules, and in other repositories inside this one, are among them.
        """
        return sorted(_files(self.root))

    def ignored(self, names: Iterable[str]) -> set[str]:
        """Returns those names that .gitignore excludes."""
        found = _ask_git(self.root, "check-ignore", "-z", "--stdin", stdin=_list(names), check=False)
        return _names(found)

    def changed(self) -> list[str]:
        """Returns the names of the files that differ from the commit, in order. Empty if git cannot say."""
        try:
            return _changed(self.root)
        except subprocess.CalledProcessError:
            return []

    def patch(self, changed: Sequence[str], files: Mapping[str, bytes]) -> bytes:
        """Returns the patch from the commit to `files`, for people to read. A changed file that they lack is removed.

        It is empty if it would be very large, or if git cannot make it, for example because a filter is missing.
        """
        try:
            patch = self._patch(changed, files) if changed else b""
        except subprocess.CalledProcessError:
            return b""
        return patch if len(patch) <= _LARGEST_PATCH else b""

    def _patch(self, changed: Sequence[str], files: Mapping[str, bytes]) -> bytes:
        """Makes the patch with an index, a work tree and a folder of objects of its own."""
        objects = (self.root / _line(self.root, "rev-parse", "--git-path", "objects")).resolve()
        with tempfile.TemporaryDirectory() as scratch:
            env = {
                "GIT_INDEX_FILE": f"{scratch}/index",
                "GIT_WORK_TREE": f"{scratch}/tree",
                "GIT_DIR": str((self.root / _line(self.root, "rev-parse", "--git-dir")).resolve()),
                "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
            }
            for folder in ("tree", "objects"):
                (Path(scratch) / folder).mkdir()
            for name in (name for name in changed if name in files):
                path = Path(scratch) / "tree" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files[name])
            tree = Path(scratch) / "tree"
            _ask_git(tree, "read-tree", "HEAD", env=env)
            update = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
            _ask_git(tree, *update, env=env, stdin=_list(changed))
            # Given explicitly: with the user's own settings, `git apply` might not accept the patch.
            plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--unified=3", "--binary")
            names = ("--src-prefix=a/", "--dst-prefix=b/")
            return _ask_git(tree, "diff", "--cached", *plain, *names, "HEAD", env=env)


def find_repository(project: Path) -> Repository | None:
    """Returns the checkout that holds `project`; None if there is none, or no git, or git refuses to read it."""
    try:
        asked = ("HEAD", "--show-toplevel", "--show-prefix", "--abbrev-ref", "HEAD")
        commit, root, prefix, branch = os.fsdecode(_ask_git(project, "rev-parse", *asked)).split("\n")[:4]
        if _ask_git(project, "check-ignore", ".", check=False):  # an installed copy in another project's .venv
            return None
        return Repository(root=Path(root), prefix=prefix, commit=commit, branch=branch, remote=_remote(project))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def _files(folder: Path) -> Iterator[str]:
    for name in _names(_ask_git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")):
        path = folder / name
        if not path.is_dir() or path.is_symlink():
            yield name
        elif (path / ".git").exists():  # a submodule, or another repository
            try:
                yield from [f"{name.rstrip('/')}/{below}" for below in _files(path)]
            except subprocess.CalledProcessError:  # such as one of another owner
                yield name.rstrip("/")


def _changed(root: Path) -> list[str]:
    """Returns the names of the files that differ from HEAD; a submodule or nested repository is one name."""
    status = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none")
    names = {os.fsdecode(line[3:]) for line in _ask_git(root, *status).split(b"\0") if line}
    # Files that are staged although .gitignore excludes them: only the user's own index lists these.
    added = ("diff", "--cached", "--name-only", "-z", "--no-renames", "--diff-filter=A", "HEAD")
    names |= _names(_ask_git(root, *added))
    return sorted(name for name in names if not (root / name).is_dir() or (root / name).is_symlink())


def _remote(root: Path) -> str | None:
    names = _line(root, "remote").split("\n")
    name = "origin" if "origin" in names else names[0]
    return without_credentials(_line(root, "remote", "get-url", name)) if name else None


def _list(names: Iterable[str]) -> bytes:
    return b"\0".join(map(os.fsencode, names))


def _names(listed: bytes) -> set[str]:
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


def _line(folder: Path, *words: str) -> str:
    return os.fsdecode(_ask_git(folder, *words)).removesuffix("\n")


def _ask_git(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", check: bool = True
) -> bytes:
    own = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    command = ["git", "-c", "core.splitIndex=false", "-c", "core.untrackedCache=false", "-C", str(folder), *words]
    return subprocess.run(
        command, env=own | _READ_ONLY | dict(env or {}), input=stdin, capture_output=True, check=check
    ).stdout
