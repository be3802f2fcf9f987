"""The user's repository as git tells it: its files, what is not committed, and that nothing is written there."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from experiments.code import repository as module
from experiments.code.repository import Repository, find_repository
from tests.projects import git


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout of one commit, and nothing uncommitted in it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "kept.py").write_text("old\n")
    (folder / "removed.py").write_text("soon gone\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def found(folder: Path) -> Repository:
    repository = find_repository(folder)
    assert repository is not None
    return repository


def patch_of(folder: Path) -> bytes:
    repository = found(folder)
    names = [name for name in repository.files() if (repository.root / name).is_file()]
    return repository.patch(repository.changed(), {name: (repository.root / name).read_bytes() for name in names})


def change(repository: Path) -> None:
    """One of each: staged, unstaged, removed, untracked (text, binary, of a strange name), ignored."""
    (repository / "staged.py").write_text("staged\n")
    git(repository, "add", "staged.py")
    (repository / "kept.py").write_text("new\n")
    (repository / "removed.py").unlink()
    (repository / "untracked.py").write_text("untracked\n")
    (repository / "picture.bin").write_bytes(bytes(range(256)))
    (repository / "naïve name.py").write_text("strange\n")
    (repository / "noise.log").write_text("ignored\n")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a checkout, without git's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def applied(repository: Path, patch: bytes, folder: Path) -> dict[str, bytes]:
    """The files of a fresh clone after `git apply` of the patch."""
    git(repository, "clone", "--quiet", str(repository), str(folder))
    (folder / ".git" / "own.patch").write_bytes(patch)
    git(folder, "apply", ".git/own.patch")
    return tree(folder)


def test_a_clean_checkout_has_no_patch(repository: Path) -> None:
    assert (found(repository).changed(), patch_of(repository)) == ([], b"")


def test_the_patch_on_a_clean_clone_gives_the_same_tree(repository: Path, tmp_path: Path) -> None:
    change(repository)
    expected = {name: content for name, content in tree(repository).items() if name != "noise.log"}
    assert applied(repository, patch_of(repository), tmp_path / "clone") == expected


def test_the_patch_is_made_from_the_bytes_that_are_given_not_from_the_disk(repository: Path) -> None:
    (repository / "kept.py").write_text("on disk\n")
    patch = found(repository).patch(["kept.py"], {"kept.py": b"as it was\n"})
    assert b"+as it was" in patch
    assert b"on disk" not in patch


@pytest.mark.parametrize("split", ["false", "true"])
def test_the_repository_is_left_as_it_was(repository: Path, split: str) -> None:
    git(repository, "config", "core.splitIndex", split)
    change(repository)
    git(repository, "status")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in repository.rglob("*") if path.is_file()}
    patch_of(repository)
    after = {path: hashlib.sha256(path.read_bytes()).digest() for path in repository.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "setting", [("diff.noprefix", "true"), ("diff.mnemonicPrefix", "true"), ("color.ui", "always")], ids=lambda s: s[0]
)
def test_the_user_s_own_git_settings_do_not_spoil_the_patch(
    repository: Path, tmp_path: Path, setting: tuple[str, str]
) -> None:
    git(repository, "config", *setting)
    (repository / "kept.py").write_text("new\n")
    assert applied(repository, patch_of(repository), tmp_path / "clone") == tree(repository)


def test_a_very_large_patch_is_empty(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_PATCH", 100)
    (repository / "large.txt").write_text("much\n" * 100)
    assert patch_of(repository) == b""


def test_what_is_staged_is_in_the_patch_though_gitignore_names_it(repository: Path, tmp_path: Path) -> None:
    (repository / "forced.log").write_text("wanted\n")
    git(repository, "add", "--force", "forced.log")
    assert applied(repository, patch_of(repository), tmp_path / "clone")["forced.log"] == b"wanted\n"


def test_files_of_submodules_and_of_repositories_inside_are_among_its_files(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(repository), str(other))
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "part")
    git(repository, "commit", "--quiet", "--message", "with a submodule")
    inside = repository / "inside"
    inside.mkdir()
    git(inside, "init", "--quiet")
    (inside / "mine.py").write_text("mine\n")
    (inside / "noise.log").write_text("not ignored here\n")
    of_part = [f"part/{name}" for name in (".gitignore", "kept.py", "removed.py")]
    of_inside = ["inside/mine.py", "inside/noise.log"]
    expected = [".gitignore", ".gitmodules", *of_inside, "kept.py", *of_part, "removed.py"]
    assert found(repository).files() == expected


def test_a_project_in_a_folder_of_its_repository_has_the_whole_repository_s_files(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "tools" / "bench").mkdir(parents=True)
    (repository / "tools" / "bench" / "new.py").write_text("new\n")
    (repository / "kept.py").write_text("changed\n")
    project = found(repository / "tools" / "bench")
    assert (project.prefix, project.root) == ("tools/bench/", repository)
    clone = applied(repository, patch_of(repository / "tools" / "bench"), tmp_path / "clone")
    assert (clone["tools/bench/new.py"], clone["kept.py"]) == (b"new\n", b"changed\n")


def test_ignored_names_are_told_from_others(repository: Path) -> None:
    assert found(repository).ignored(["noise.log", "new.py", "deep/er.log"]) == {"noise.log", "deep/er.log"}


def test_the_environment_of_a_git_hook_does_not_lead_astray(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / "of another"))
    assert patch_of(repository) == b""


def test_a_checkout_tells_commit_branch_and_remote(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-b", "topic")
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert found(repository).as_dict() == {"commit": commit, "branch": "topic", "remote": None, "prefix": ""}


@pytest.mark.parametrize("name", ["origin", "upstream"])
def test_the_remote_is_told_without_credentials(repository: Path, name: str) -> None:
    git(repository, "remote", "add", name, "https://user:secret@host/repo.git")
    assert found(repository).remote == "https://host/repo.git"


def test_a_file_that_became_a_folder_is_in_the_patch(repository: Path, tmp_path: Path) -> None:
    (repository / "kept.py").unlink()
    (repository / "kept.py").mkdir()
    (repository / "kept.py" / "inner.py").write_text("new\n")
    assert applied(repository, patch_of(repository), tmp_path / "clone") == tree(repository)


def test_a_patch_that_git_cannot_make_is_empty(repository: Path) -> None:
    git(repository, "config", "filter.missing.clean", "false")
    git(repository, "config", "filter.missing.required", "true")
    (repository / ".gitattributes").write_text("*.py filter=missing\n")
    (repository / "kept.py").write_text("new\n")
    assert patch_of(repository) == b""


def test_outside_of_a_repository_there_is_none(tmp_path: Path) -> None:
    assert find_repository(tmp_path) is None


def test_without_git_there_is_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_repository(repository) is None


def test_a_repository_that_git_refuses_because_of_its_owner_is_none(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "status")
    assert find_repository(repository) is None


def test_a_copy_installed_in_an_ignored_folder_of_another_repository_is_none(repository: Path) -> None:
    installed = repository / "env.log" / "site-packages"
    installed.mkdir(parents=True)
    assert find_repository(installed) is None
