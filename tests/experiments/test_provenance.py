"""What a run needs to be run again: above all, the patch of everything that is not committed."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from experiments import provenance

ELSEWHERE = Path("/a/store/elsewhere")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A Tester", "-c", "user.email=tester@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit that provenance takes for the project, and nothing uncommitted in it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "kept.py").write_text("old\n")
    (folder / "removed.py").write_text("soon gone\n")
    (folder / ".gitignore").write_text("*.log\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(provenance, "PROJECT", folder)
    return folder


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
    assert provenance._patch(ELSEWHERE) == (b"", [])


def test_the_patch_on_a_clean_clone_gives_the_same_tree(repository: Path, tmp_path: Path) -> None:
    change(repository)
    patch, _ = provenance._patch(ELSEWHERE)
    left_out = {"noise.log", ".env"}
    expected = {name: content for name, content in tree(repository).items() if name not in left_out}
    assert applied(repository, patch, tmp_path / "clone") == expected


def test_the_patch_obeys_gitignore(repository: Path) -> None:
    change(repository)
    patch, left_out = provenance._patch(ELSEWHERE)
    assert b"noise.log" not in patch
    assert "noise.log" not in left_out


def test_a_large_file_is_left_out_and_named_and_the_code_stays(repository: Path) -> None:
    (repository / "images.npz").write_bytes(bytes(1_000_001))
    (repository / "kept.py").write_text("new\n")
    patch, left_out = provenance._patch(ELSEWHERE)
    assert left_out == ["images.npz"]
    assert b"+new" in patch


def test_a_store_within_the_checkout_is_no_part_of_the_patch(repository: Path) -> None:
    (repository / "results").mkdir()
    (repository / "results" / "mlflow.db").write_text("rows")
    assert provenance._patch(repository / "results") == (b"", [])


def test_what_looks_like_a_secret_is_left_out_and_named(repository: Path) -> None:
    change(repository)
    patch, left_out = provenance._patch(ELSEWHERE)
    assert b"hunter2" not in patch
    assert left_out == [".env"]


@pytest.mark.parametrize(
    "name",
    [".env.local", "conf/server.pem", "deep/er/id_rsa", "my credentials.json", ".netrc", "schlüssel.key", 'a"b.key'],
)
def test_a_secret_is_known_by_its_name(repository: Path, name: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("hunter2\n")
    assert provenance._patch(ELSEWHERE) == (b"", [name])


def test_the_repository_is_left_as_it_was(repository: Path) -> None:
    change(repository)
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in repository.rglob("*") if path.is_file()}
    provenance._patch(ELSEWHERE)
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
    patch, _ = provenance._patch(ELSEWHERE)
    assert applied(repository, patch, tmp_path / "clone") == tree(repository)


def test_a_patch_too_large_is_left_out_and_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_MAX_PATCH", 100)
    (repository / "large.txt").write_text("much\n" * 100)
    patch, left_out = provenance._patch(ELSEWHERE)
    assert patch == b""
    assert "more than 100" in left_out[0]


def test_provenance_tells_command_seed_threads_and_versions(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    assert "train digits" in told["command"]
    assert told["seed"] == 0
    assert told["torch"]["threads"] == 1
    assert {"cpu", "cores", "host", "os", "python"} <= set(told["machine"])


def test_provenance_s_split_hashes_are_the_trace_s(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    lines = [json.loads(line) for line in (first_folder / "trace.jsonl").read_text().splitlines()]
    assert told["data_sha256"] == lines[0]["sha256"]
    assert told["split_sha256"] == lines[1]["sha256"]


def test_requirements_pin_every_package(first_folder: Path) -> None:
    lines = (first_folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert {"mlflow", "pytorch-lightning", "torch"} <= {line.split("==")[0] for line in lines}
