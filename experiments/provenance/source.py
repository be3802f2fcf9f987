"""A run's code in a git checkout: the commit, and one patch with everything that is not committed."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.process.redaction import is_secret_file, without_credentials

PROJECT = Path(__file__).resolve().parents[2]
MAX_FILE, MAX_TOTAL = 1_000_000, 10_000_000  # bytes; a larger file is not code
# Git sets these for its hooks; they would lead to another repository than the project's.
_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """The git checkout that holds the project."""

    root: Path
    prefix: str  # the project's folder below the root, with a final slash; empty if they are the same
    commit: str
    branch: str  # HEAD if no branch is checked out
    remote: str | None  # URL of origin, or else of the first remote; without credentials
    patch: bytes  # from the commit to the working tree, for `git apply`; staged, unstaged and untracked files
    left_out: tuple[str, ...]  # changed, but not in the patch: secrets, large or unreadable files, repositories

    def as_dict(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "branch": self.branch,
            "remote": self.remote,
            "prefix": self.prefix,
            "dirty": bool(self.patch or self.left_out),
            "left_out_of_patch": list(self.left_out),
        }

    def ignored(self, paths: Iterable[Path]) -> set[Path]:
        """Returns the files below the root that .gitignore excludes: neither the commit nor the patch holds them."""
        inside = [path for path in paths if path.is_relative_to(self.root)]
        found = _ask_git(self.root, "check-ignore", "-z", "--stdin", stdin=_list(inside), check=False)
        return {Path(os.fsdecode(name)) for name in found.split(b"\0") if name}


@cache
def first_checkout(project: Path, store: Path) -> Checkout | None:
    """Returns the checkout as it was at the first call: this process does not run code that is edited later."""
    return find_checkout(project, store)


def find_checkout(project: Path, store: Path) -> Checkout | None:
    """Returns the checkout that holds `project` now, without the folder `store`; None if there is none, or no git."""
    try:
        commit = _line(project, "rev-parse", "HEAD")
        if _ask_git(project, "check-ignore", ".", check=False):  # an installed copy in another project's .venv
            return None
        root, prefix = (
            Path(_line(project, "rev-parse", "--show-toplevel")),
            _line(project, "rev-parse", "--show-prefix"),
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    try:
        patch, left_out = _patch(root, store)
    except subprocess.CalledProcessError as error:  # such as a missing git filter: training can still start
        reason = " ".join(error.stderr.decode(errors="replace").split())
        patch, left_out = b"", [f"everything ({reason})"]
    return Checkout(
        root=root,
        prefix=prefix,
        commit=commit,
        branch=_line(project, "rev-parse", "--abbrev-ref", "HEAD"),
        remote=_remote(root),
        patch=patch,
        left_out=tuple(left_out),
    )


def _remote(root: Path) -> str | None:
    names = _line(root, "remote").split("\n")
    name = "origin" if "origin" in names else names[0]
    return without_credentials(_line(root, "remote", "get-url", name)) if name else None


def _patch(root: Path, store: Path) -> tuple[bytes, list[str]]:
    """Returns the patch and the names left out. A scratch index and object folder leave the repository unchanged."""
    objects = (root / _line(root, "rev-parse", "--git-path", "objects")).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        env = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        Path(env["GIT_OBJECT_DIRECTORY"]).mkdir()
        _ask_git(root, "read-tree", "HEAD", env=env)
        changed = _changed(root, store, env)
        kept = [name for name in changed if not is_secret_file(name) and _is_code(root / name)]
        left_out = sorted(set(changed) - set(kept))
        # Adds files by name, so that git does not even read those left out.
        _ask_git(root, "update-index", "--add", "--remove", "--replace", "-z", "--stdin", env=env, stdin=_list(kept))
        # Given explicitly: with the user's own git settings, `git apply` might not accept the patch.
        plain = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--unified=3")
        names = ("--src-prefix=a/", "--dst-prefix=b/")
        patch = _ask_git(root, "diff", "--cached", "--binary", *plain, *names, "HEAD", env=env)
    if len(patch) > MAX_TOTAL:
        return b"", [*left_out, f"everything ({len(patch)} bytes are more than {MAX_TOTAL})"]
    return patch, left_out


def _changed(root: Path, store: Path, env: Mapping[str, str]) -> list[str]:
    """Returns the sorted names of all files that differ from HEAD; a submodule or nested repository is one name."""
    outside = [f":(exclude,top,literal){store.relative_to(root)}"] if root in store.parents else []
    status = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none")
    lines = _ask_git(root, *status, "--", ".", *outside, env=env).split(b"\0")
    # Files that are staged although .gitignore excludes them: only the user's own index lists these.
    added = ("diff", "--cached", "--name-only", "-z", "--no-renames", "--diff-filter=A", "HEAD", "--", ".", *outside)
    names = {line[3:] for line in lines} | set(_ask_git(root, *added).split(b"\0"))
    return sorted(os.fsdecode(name) for name in names if name)


def _is_code(path: Path) -> bool:
    """Returns False for a nested repository, and for a file that is too large or cannot be read."""
    if path.is_symlink() or not path.is_file():
        return not (path / ".git").exists()
    return path.stat().st_size <= MAX_FILE and os.access(path, os.R_OK)


def _list(paths: Iterable[str | Path]) -> bytes:
    return b"\0".join(map(os.fsencode, paths))


def _line(folder: Path, *words: str) -> str:
    return os.fsdecode(_ask_git(folder, *words)).removesuffix("\n")


def _ask_git(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", check: bool = True
) -> bytes:
    own = {name: value for name, value in os.environ.items() if name not in _HOOK_VARIABLES}
    own |= {"GIT_OPTIONAL_LOCKS": "0"} | dict(env or {})
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, env=own, input=stdin, capture_output=True, check=check).stdout
