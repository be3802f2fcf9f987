"""The scratch checkout of a run of an earlier version: code bit for bit, nothing of the user's touched or unsafe."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from experiments.code import earlier
from experiments.code.earlier import checkout, unpack
from experiments.code.scratch import remove_leftovers
from experiments.code.snapshot import PROJECT
from experiments.errors import CannotRun, Interrupted

LINK, SUBMODULE = "120000", "160000"


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A Tester", "-c", "user.email=tester@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path) -> str:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "a commit")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "store" / "scratch"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout of one commit, clean."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "kept.py").write_text("one\ntwo\nthree\n")
    (folder / "removed.py").write_text("soon gone\n")
    (folder / "moved.py").write_text("elsewhere\n" * 20)
    (folder / "package").mkdir()
    (folder / "package" / "picture.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "link").symlink_to("package")
    commit(folder)
    return folder


def change(repository: Path) -> None:
    """One of each kind of change, some staged, some not, some to files that git does not know."""
    (repository / "kept.py").write_bytes(b"one\r\ntwo  \nfour")
    (repository / "kept.py").chmod(0o755)
    git(repository, "add", "kept.py")
    (repository / "removed.py").unlink()
    (repository / "moved.py").rename(repository / "package" / "moved.py")
    (repository / "package" / "picture.bin").write_bytes(bytes(range(255, -1, -1)) * 20)
    (repository / "new.bin").write_bytes(b"\0\xff\r\n")
    (repository / "empty.py").touch()
    (repository / "a name\nof two lines.py").write_text("strange\n")
    (repository / 'naïve "name".py').write_text("strange\n")


def tree(folder: Path) -> dict[str, tuple[bool, bytes]]:
    """Every file of a checkout, without git's own: whether it is executable, and its bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(folder)): (os.access(path, os.X_OK), path.read_bytes()) for path in files}


def everything(folder: Path) -> dict[str, bytes]:
    """Every file, git's own included."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "owners")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def patch_of(project: Path) -> bytes:
    """What earlier versions recorded: everything that is not committed, untracked files included."""
    with tempfile.TemporaryDirectory() as scratch:
        env = os.environ | {"GIT_INDEX_FILE": f"{scratch}/index"}
        env = {name: value for name, value in env.items() if name != "GIT_DIR"}
        root = subprocess.check_output(["git", "rev-parse", "--show-toplevel"], cwd=project, text=True, env=env).strip()
        plain = ["git", "-C", root, "-c", "core.autocrlf=false"]
        subprocess.run([*plain, "read-tree", "HEAD"], check=True, env=env)
        subprocess.run([*plain, "add", "--all"], check=True, env=env, capture_output=True)
        return subprocess.check_output([*plain, "diff", "--cached", "--binary", "HEAD"], env=env)


def patch_that_adds(name: str, mode: str = "100644", text: str = "x") -> bytes:
    head = f"diff --git a/{name} b/{name}\nnew file mode {mode}\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n"
    return f"{head}+{text}\n\\ No newline at end of file\n".encode()


def test_yesterdays_dirty_tree_comes_back_bitwise_and_todays_is_not_touched(repository: Path, scratch: Path) -> None:
    change(repository)
    yesterday, recorded, patch = (
        tree(repository),
        git(repository, "rev-parse", "HEAD"),
        patch_of(repository),
    )
    git(repository, "stash", "--include-untracked")
    (repository / "kept.py").write_text("today\n")
    commit(repository)
    (repository / "kept.py").write_text("and dirty\n")
    (repository / "staged.py").touch()
    git(repository, "add", "staged.py")
    today = everything(repository)

    with checkout(scratch, repository, recorded, patch) as folder:
        assert tree(folder) == yesterday
        assert (folder / "link").readlink() == Path("package")
        assert git(folder, "rev-parse", "HEAD") == recorded
        assert patch_of(folder) == patch  # what a run in there records of itself
    assert list(scratch.iterdir()) == []
    assert everything(repository) == today


def test_settings_attributes_and_hooks_of_the_user_take_no_part(
    repository: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / ".gitattributes").write_text("*.py filter=shout\n")
    recorded = commit(repository)
    change(repository)
    dirty, patch = tree(repository), patch_of(repository)
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "attributes").write_text("* eol=crlf\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    for place in ("--global", "--local"):
        for key, value in {
            "core.autocrlf": "true",
            "core.hooksPath": str(hook.parent),
            "apply.whitespace": "fix",
            "filter.shout.smudge": "tr a-z A-Z",
            "filter.shout.required": "true",
        }.items():
            git(repository, "config", place, key, value)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))

    with checkout(scratch, repository, recorded, patch) as folder:
        assert tree(folder) == dirty
    assert not (tmp_path / "hooked").exists()


def test_a_project_below_the_top_of_a_linked_worktree(repository: Path, scratch: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    project = tmp_path / "linked" / "package"
    (project / "picture.bin").write_text("changed\n")
    (project / "untracked.py").write_text("untracked\n")
    patch = patch_of(project)
    with checkout(scratch, project, git(project, "rev-parse", "HEAD"), patch) as folder:
        assert folder.name == "package"
        assert tree(folder) == tree(project)
        assert (folder.parent / "kept.py").exists()


def test_a_project_that_the_commit_does_not_have_yet(repository: Path, scratch: Path) -> None:
    (repository / "later").mkdir()
    recorded = git(repository, "rev-parse", "HEAD")
    with pytest.raises(CannotRun, match="no folder later"), checkout(scratch, repository / "later", recorded, b""):
        pass


@pytest.mark.parametrize("gone", ["0123456789" * 4, "", "HEAD", "--all"])
def test_a_commit_that_is_gone_is_said_and_not_fetched(repository: Path, scratch: Path, gone: str) -> None:
    with pytest.raises(CannotRun, match="is not in this repository; git fetch"):
        checkout(scratch, repository, gone, b"").__enter__()
    assert list(scratch.iterdir()) == []


def test_a_folder_without_git_is_said(scratch: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="is not a git checkout"):
        checkout(scratch, tmp_path, "0123456789" * 4, b"").__enter__()


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        *((name, patch_that_adds(name)) for name in ("/tmp/planted", "../planted", "package/../../planted")),
        *((name, patch_that_adds(name)) for name in (".git/hooks/post-checkout", ".GIT/config", "package/.Git/config")),
        ("planted", patch_that_adds("planted", LINK, "/etc")),
        ("planted", patch_that_adds("planted", LINK, "..") + patch_that_adds("planted/file")),
        ("link/planted", patch_that_adds("link/planted")),
        ("planted", patch_that_adds("planted", SUBMODULE, f"Subproject commit {'0123456789' * 4}")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unsafe_patch_is_refused_by_name_before_anything_is_written(
    repository: Path, scratch: Path, tmp_path: Path, name: str, patch: bytes
) -> None:
    before = everything(tmp_path)
    with pytest.raises(CannotRun, match=f"patch is refused.*'{name}"):
        checkout(scratch, repository, git(repository, "rev-parse", "HEAD"), patch).__enter__()
    assert everything(tmp_path) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("to", ["another link", "a file", "a folder", "nothing"])
def test_a_patch_that_changes_a_link_of_the_commit_is_refused(repository: Path, scratch: Path, to: str) -> None:
    link = repository / "link"
    link.unlink()
    if to == "another link":
        link.symlink_to("/etc")
    elif to == "a file":
        link.write_text("x")
    elif to == "a folder":
        link.mkdir()
        (link / "planted").write_text("x")
    patch = patch_of(repository)
    with pytest.raises(CannotRun, match="'link' is a symbolic link"):
        checkout(scratch, repository, git(repository, "rev-parse", "HEAD"), patch).__enter__()


@pytest.mark.parametrize("patch", [b"no patch\n", b"--- a/kept.py\n+++ b/kept.py\n@@ -1 +1 @@\n-uno\n+due\n"])
def test_a_patch_that_does_not_apply_is_said(repository: Path, scratch: Path, patch: bytes) -> None:
    with pytest.raises(CannotRun, match="patch is refused: "):
        checkout(scratch, repository, git(repository, "rev-parse", "HEAD"), patch).__enter__()


def test_an_interrupt_removes_the_checkout(repository: Path, scratch: Path) -> None:
    def work() -> None:
        with checkout(scratch, repository, git(repository, "rev-parse", "HEAD"), b""):
            raise Interrupted("SIGINT")

    with pytest.raises(Interrupted):
        work()
    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_live_ones_stays(repository: Path, scratch: Path) -> None:
    recorded = git(repository, "rev-parse", "HEAD")
    code = (
        "import os, signal, sys; from pathlib import Path; from experiments.code.earlier import checkout\n"
        "with checkout(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], b''): os.kill(os.getpid(), signal.SIGKILL)"
    )
    before = everything(repository)
    killed = subprocess.run([sys.executable, "-c", code, scratch, repository, recorded], cwd=PROJECT)
    assert killed.returncode == -signal.SIGKILL
    (left,) = scratch.iterdir()
    with checkout(scratch, repository, recorded, b"") as folder:
        remove_leftovers(scratch)
        assert list(scratch.iterdir()) == [folder]
    assert not left.exists()
    assert everything(repository) == before


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return path


def link_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_sources_are_unpacked_as_they_were(scratch: Path, tmp_path: Path) -> None:
    sources = zipped(tmp_path / "sources.zip", ("package/", ""), ("package/naïve.py", "a\r\nb"), ("empty.py", ""))
    with unpack(scratch, sources) as folder:
        assert everything(folder) == {"package/naïve.py": b"a\r\nb", "empty.py": b""}
    assert list(scratch.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "members",
    [
        [("/tmp/planted", "x")],
        [("package/../../planted", "x")],
        [("package/.GIT/config", "x")],
        [(link_member("planted"), "/etc")],
        [("planted", "x"), ("planted", "y")],
        [("planted", "x" * 1001)],
    ],
)
def test_unsafe_sources_are_refused(
    scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[tuple[str | zipfile.ZipInfo, str]]
) -> None:
    monkeypatch.setattr(earlier, "_MAX_UNPACKED", 1000)
    sources = zipped(tmp_path / "sources.zip", *members)
    with pytest.raises(CannotRun, match=r"sources.zip is refused: ('.*(planted|config)'|it unpacks to more)"):
        unpack(scratch, sources).__enter__()
    assert list(scratch.iterdir()) == []


def test_damaged_sources_are_said(scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "sources.zip").write_text("no archive")
    with pytest.raises(CannotRun, match=r"sources.zip cannot be unpacked: File is not a zip file"):
        unpack(scratch, tmp_path / "sources.zip").__enter__()
