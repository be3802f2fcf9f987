"""A run's code in a git checkout: above all, the patch of everything that is not committed."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from experiments.provenance import source
from experiments.provenance.source import Checkout, find_checkout

ELSEWHERE = Path("/a/store/elsewhere")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A Tester", "-c", "user.email=tester@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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


def checkout(folder: Path, store: Path = ELSEWHERE) -> Checkout:
    """Read anew: a process reads it once."""
    found = find_checkout(folder, store)
    assert found is not None
    return found


def patch_of(folder: Path, store: Path = ELSEWHERE) -> tuple[bytes, tuple[str, ...]]:
    found = checkout(folder, store)
    return found.patch, found.left_out


def change(repository: Path) -> None:
    """One of each: staged, unstaged, removed, untracked (text, binary, of a strange name), ignored, secret."""
    (repository / "staged.py").write_text("staged\n")
    git(repository, "add", "staged.py")
    (repository / "kept.py").write_text("new\n")
    (repository / "removed.py").unlink()
    (repository / "untracked.py").write_text("untracked\n")
    (repository / "picture.bin").write_bytes(bytes(range(256)))
    (repository / "naïve name.py").write_text("strange\n")
    (repository / "noise.log").write_text("ignored\n")
    (repository / ".env").write_text("PASSWORD=hunter2\n")


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
    assert patch_of(repository) == (b"", ())


def test_the_patch_on_a_clean_clone_gives_the_same_tree(repository: Path, tmp_path: Path) -> None:
    change(repository)
    patch, _ = patch_of(repository)
    left_out = {"noise.log", ".env"}
    expected = {name: content for name, content in tree(repository).items() if name not in left_out}
    assert applied(repository, patch, tmp_path / "clone") == expected


def test_the_patch_obeys_gitignore(repository: Path) -> None:
    change(repository)
    patch, left_out = patch_of(repository)
    assert b"noise.log" not in patch
    assert "noise.log" not in left_out


def test_a_large_file_is_left_out_and_named_and_the_code_stays(repository: Path) -> None:
    (repository / "images.npz").write_bytes(bytes(1_000_001))
    (repository / "kept.py").write_text("new\n")
    patch, left_out = patch_of(repository)
    assert left_out == ("images.npz",)
    assert b"+new" in patch


def test_a_store_within_the_checkout_is_no_part_of_the_patch(repository: Path) -> None:
    (repository / "results").mkdir()
    (repository / "results" / "mlflow.db").write_text("rows")
    assert patch_of(repository, repository / "results") == (b"", ())


def test_what_looks_like_a_secret_is_left_out_and_named(repository: Path) -> None:
    change(repository)
    patch, left_out = patch_of(repository)
    assert b"hunter2" not in patch
    assert left_out == (".env",)


@pytest.mark.parametrize(
    "name",
    [
        ".env.local",
        "conf/server.pem",
        "deep/er/id_rsa",
        "my credentials.json",
        ".netrc",
        "schlüssel.key",
        'a"b.key',
        "Secrets/db",
    ],
)
def test_a_secret_is_known_by_its_name(repository: Path, name: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("hunter2\n")
    assert patch_of(repository) == (b"", (name,))


def test_the_repository_is_left_as_it_was(repository: Path) -> None:
    change(repository)
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
    patch, _ = patch_of(repository)
    assert applied(repository, patch, tmp_path / "clone") == tree(repository)


def test_a_patch_too_large_is_left_out_and_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_TOTAL", 100)
    (repository / "large.txt").write_text("much\n" * 100)
    patch, left_out = patch_of(repository)
    assert patch == b""
    assert "more than 100" in left_out[0]


def test_what_is_staged_is_in_the_patch_though_gitignore_names_it(repository: Path, tmp_path: Path) -> None:
    (repository / "forced.log").write_text("wanted\n")
    git(repository, "add", "--force", "forced.log")
    patch, _ = patch_of(repository)
    assert applied(repository, patch, tmp_path / "clone")["forced.log"] == b"wanted\n"


def test_a_repository_inside_is_left_out_and_named(repository: Path) -> None:
    for name in ("with_commit", "without"):
        (repository / name).mkdir()
        git(repository / name, "init", "--quiet")
    git(repository / "with_commit", "commit", "--quiet", "--allow-empty", "--message", "its own")
    assert patch_of(repository) == (b"", ("with_commit/", "without/"))


def test_a_changed_submodule_is_left_out_and_named(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(repository), str(other))
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "part")
    git(repository, "commit", "--quiet", "--message", "with a submodule")
    assert patch_of(repository) == (b"", ())
    (repository / "part" / "kept.py").write_text("new\n")
    assert patch_of(repository) == (b"", ("part",))


def test_a_project_in_a_folder_of_its_repository_has_the_whole_repository_s_patch(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "tools" / "bench").mkdir(parents=True)
    (repository / "tools" / "bench" / "new.py").write_text("new\n")
    (repository / "tools" / "large.npy").write_bytes(bytes(1_000_001))
    (repository / "kept.py").write_text("changed\n")
    found = checkout(repository / "tools" / "bench", repository / "tools" / "bench" / "mlruns")
    assert (found.prefix, found.left_out) == ("tools/bench/", ("tools/large.npy",))
    clone = applied(repository, found.patch, tmp_path / "clone")
    assert (clone["tools/bench/new.py"], clone["kept.py"]) == (b"new\n", b"changed\n")


def test_the_environment_of_a_git_hook_does_not_lead_astray(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / "of another"))
    assert patch_of(repository) == (b"", ())


def test_a_checkout_tells_commit_branch_remote_and_dirt(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-b", "topic")
    clean = checkout(repository).as_dict()
    assert clean == {
        "commit": git(repository, "rev-parse", "HEAD").strip(),
        "branch": "topic",
        "remote": None,
        "prefix": "",
        "dirty": False,
        "left_out_of_patch": [],
    }
    (repository / ".env").write_text("PASSWORD=hunter2\n")
    assert checkout(repository).as_dict() == clean | {"dirty": True, "left_out_of_patch": [".env"]}


@pytest.mark.parametrize("name", ["origin", "upstream"])
def test_the_remote_is_told_without_credentials(repository: Path, name: str) -> None:
    git(repository, "remote", "add", name, "https://user:secret@host/repo.git")
    assert checkout(repository).remote == "https://host/repo.git"


def test_a_file_that_became_a_folder_is_in_the_patch(repository: Path, tmp_path: Path) -> None:
    (repository / "kept.py").unlink()
    (repository / "kept.py").mkdir()
    (repository / "kept.py" / "inner.py").write_text("new\n")
    patch, left_out = patch_of(repository)
    assert (applied(repository, patch, tmp_path / "clone"), left_out) == (tree(repository), ())


def test_what_git_cannot_do_is_named(repository: Path) -> None:
    git(repository, "config", "filter.missing.clean", "false")
    git(repository, "config", "filter.missing.required", "true")
    (repository / ".gitattributes").write_text("*.py filter=missing\n")
    (repository / "kept.py").write_text("new\n")
    found = checkout(repository)
    assert (found.patch, found.as_dict()["dirty"]) == (b"", True)
    assert found.left_out[0].startswith("everything (")


def test_outside_of_a_repository_there_is_no_checkout(tmp_path: Path) -> None:
    assert find_checkout(tmp_path, ELSEWHERE) is None


def test_without_git_there_is_no_checkout(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_checkout(repository, ELSEWHERE) is None


def test_a_copy_installed_in_an_ignored_folder_of_another_repository_is_no_checkout(repository: Path) -> None:
    installed = repository / "env.log" / "site-packages"
    installed.mkdir(parents=True)
    assert find_checkout(installed, ELSEWHERE) is None
