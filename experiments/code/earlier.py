"""The code of runs that were made before stores had a `code.git`: a commit of the user's repository, and two artifacts.

The scratch checkout is a new repository that borrows the objects of the user's repository. It only reads from it, uses
none of its hooks, filters and settings, and has no remote to fetch from.
"""

import os
import stat
import subprocess
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from experiments.artifact_names import PATCH, SOURCES
from experiments.code.code_store import NO_SETTINGS, is_inside
from experiments.code.scratch import scratch_folder, write_inside
from experiments.errors import CannotRun

_MAX_UNPACKED = 200_000_000  # bytes
_LINK, _SUBMODULE = b"120000", b"160000"  # git's file modes


@contextmanager
def earlier_code(scratch: Path, project: Path, commit: str | None, artifacts: Path) -> Iterator[Path]:
    """Yields a folder in `scratch` with the project's code as a run had it; the folder is removed at the end.

    The code is `commit` with the `uncommitted.patch` in the folder `artifacts`, and the files of the `sources.zip`
    there. Without a commit, `sources.zip` holds all of it. Raises CannotRun if the code is not available.
    """
    sources = artifacts / SOURCES
    if commit is None:
        if not sources.exists():
            raise CannotRun("neither a commit nor a copy of its code was recorded", "start a new run in a git checkout")
        with unpack(scratch, sources) as code:
            yield code
        return
    with checkout(scratch, project, commit, (artifacts / PATCH).read_bytes()) as code:
        if sources.exists():
            with unpack(scratch, sources) as kept:
                for path in filter(Path.is_file, kept.rglob("*")):
                    write_inside(code, str(path.relative_to(kept)), path.read_bytes())
        yield code


@contextmanager
def checkout(scratch: Path, project: Path, commit: str, patch: bytes) -> Iterator[Path]:
    """Yields the folder `project` in a copy of its git checkout in `scratch`, at `commit` with `patch` applied.

    The copy is removed at the end. It has no submodules; files behind a git filter (git-lfs) are as the commit holds
    them. Raises CannotRun if the commit is missing, or if the patch does not apply, writes outside the checkout, or
    holds symbolic links or submodules. The patch is checked before any of it is written to disk.
    """
    object_format, subfolder, objects = _locate(project)
    with scratch_folder(scratch) as folder:
        _git_or_refuse(folder, "init", "--quiet", "--template=", f"--object-format={object_format}")
        (folder / ".git" / "objects" / "info" / "alternates").write_bytes(os.fsencode(f"{objects}\n"))
        _git_or_refuse(folder, "update-ref", "--no-deref", "HEAD", _find(folder, commit))
        _git_or_refuse(folder, "read-tree", "HEAD")
        if patch:
            _apply(folder, patch)
        _git_or_refuse(folder, "checkout-index", "--all")
        if not (folder / subfolder).is_dir():
            raise CannotRun(f"commit {commit} has no folder {subfolder}", "check whether the project was moved since")
        yield folder / subfolder


@contextmanager
def unpack(scratch: Path, sources: Path) -> Iterator[Path]:
    """Yields a folder in `scratch` with the files of a run's `sources.zip`; the folder is removed at the end.

    Raises CannotRun if the archive is damaged, too large, or would write anything but files in that folder.
    """
    with scratch_folder(scratch) as folder:
        try:
            with zipfile.ZipFile(sources) as archive:
                _check_members(archive.infolist())
                archive.extractall(folder)
        except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CannotRun(f"{sources.name} cannot be unpacked: {error}", f"inspect {sources}") from error
        yield folder


def _locate(project: Path) -> tuple[str, str, str]:
    """Returns a checkout's object format, the path of `project` below its root, and its folder of objects."""
    found = _git_or_refuse(
        project,
        *("rev-parse", "--path-format=absolute", "--show-object-format", "--show-prefix", "--git-path", "objects"),
        failure=f"{project} is not a git checkout",
        remedy="reproduce in a clone of the run's repository",
        settings={},  # the user's settings may hold safe.directory
    )
    object_format, subfolder, objects = os.fsdecode(found).splitlines()
    return object_format, subfolder, objects


def _find(folder: Path, commit: str) -> str:
    found = _git_or_refuse(
        folder,
        *("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"),
        failure=f"commit {commit} is not in this repository",
        remedy="git fetch the branch that contains it",
    )
    return found.decode().strip()


def _apply(folder: Path, patch: bytes) -> None:
    """Applies the patch to the index alone. Git itself refuses paths outside the checkout or inside a `.git`."""
    failure, remedy = "the run's patch is refused", "inspect its uncommitted.patch"
    _git_or_refuse(folder, "apply", "--cached", "-", stdin=patch, failure=failure, remedy=remedy)
    changes = _git_or_refuse(folder, "diff-index", "--cached", "--raw", "-z", "HEAD").split(b"\0")
    for change, name in zip(changes[::2], changes[1::2], strict=False):
        if {_LINK, _SUBMODULE} & set(change.lstrip(b":").split()[:2]):  # its mode before, and after
            what = f"{os.fsdecode(name)!r} is a symbolic link or a submodule"
            raise CannotRun(f"{failure}: {what}", remedy)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        if not is_inside(member.filename) or kind not in (0, stat.S_IFREG, stat.S_IFDIR) or str(path) in seen:
            raise _refused(f"{member.filename!r} is outside the folder, inside a .git, not a file, or listed twice")
        seen.add(str(path))
    if sum(member.file_size for member in members) > _MAX_UNPACKED:  # no member unpacks to more than it declares
        raise _refused(f"it unpacks to more than {_MAX_UNPACKED // 10**6} MB")


def _refused(reason: str) -> CannotRun:
    return CannotRun(f"the run's sources.zip is refused: {reason}", "inspect it before you trust it")


def _git_or_refuse(
    folder: Path,
    *words: str,
    stdin: bytes = b"",
    settings: Mapping[str, str] = NO_SETTINGS,
    failure: str = "git cannot make the scratch checkout",
    remedy: str = "check that the repository is complete (git fsck) and the disk is not full",
) -> bytes:
    """Returns what git prints. If git fails, raises CannotRun with `failure`, git's first error, and `remedy`."""
    # A git hook that starts the workbench has GIT_DIR and similar variables set.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, env={**env, "LC_ALL": "C", **settings}, input=stdin, capture_output=True)
    except FileNotFoundError as error:
        raise CannotRun("git is not installed", "install git") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").splitlines()
        errors = [line.partition(": ")[2] for line in lines if line.startswith(("error: ", "fatal: "))]
        raise CannotRun(": ".join([failure, *errors[:1]]), remedy)
    return done.stdout
