"""Which of the project's files are recorded: bytes as they are, links followed, limits told, secrets never read."""

from hashlib import sha256
from pathlib import Path

import pytest

from experiments.code.code_store import CodeStore
from experiments.code.snapshot import Contents, File, take_snapshot
from experiments.pages.page import render
from lightning_modules import InputError
from tests.projects import git


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "deep").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / ".gitattributes").write_text("*.txt text eol=crlf\n*.bin filter=lfs\n")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "net.py").write_bytes(b"a = 1\r\n")
    (folder / "deep" / "notes.txt").write_bytes(b"one\ntwo\r\n")
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def contents(project: Path, *without: Path) -> Contents:
    return take_snapshot(project).contents(without)


def test_every_file_has_its_bytes_and_its_mode_and_ignored_ones_are_left_out(project: Path) -> None:
    (project / "new.py").write_text("untracked\n")
    (project / "noise.log").write_text("ignored\n")
    (project / "weights.bin").unlink()
    kept = contents(project)
    files = {name: project / name for name in (".gitattributes", ".gitignore", "deep/notes.txt", "net.py", "new.py")}
    assert {name: file.content for name, file in kept.files.items()} == {
        **{name: path.read_bytes() for name, path in files.items()},
        "run.sh": b"#!/bin/sh\n",
    }
    assert [name for name, file in kept.files.items() if file.is_executable] == ["run.sh"]
    assert kept.left_out == {}


def test_python_files_are_as_they_were_when_the_snapshot_was_taken(project: Path) -> None:
    snapshot = take_snapshot(project)
    (project / "net.py").write_text("a = 2\n")
    (project / "deep" / "notes.txt").write_text("edited\n")
    files = snapshot.contents().files
    assert (files["net.py"].content, files["deep/notes.txt"].content) == (b"a = 1\r\n", b"edited\n")


def test_links_are_followed(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "helper.py").write_text("outside\n")
    (project / "to_file.py").symlink_to(outside / "helper.py")
    (project / "to_folder").symlink_to(outside)
    (project / "to_inside").symlink_to("deep")
    (project / "to_nothing").symlink_to("nowhere")
    git(project, "add", "to_inside")
    files = contents(project).files
    linked = {name: files[name].content for name in files if name.startswith("to_")}
    assert linked == {
        "to_file.py": b"outside\n",
        "to_folder/helper.py": b"outside\n",
        "to_inside/notes.txt": b"one\ntwo\r\n",
    }


def test_a_link_to_a_huge_folder_is_named_and_not_followed(project: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    huge.mkdir()
    for number in range(2001):
        (huge / f"{number}.txt").touch()
    (project / "data").symlink_to(huge)
    assert list(contents(project).left_out) == ["data"]


def test_a_file_beyond_the_limit_is_hashed_and_named_with_the_line_that_widens_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "large.npy").write_bytes(bytes(5_000_001))
    (left_out,) = contents(project).left_out.items()
    name, why = left_out
    assert (name, why.bytes) == ("large.npy", 5_000_001)
    assert why.sha256 == sha256(bytes(5_000_001)).hexdigest()
    assert why.why == "more than 5 MB; to record it: export WORKBENCH_CODE_FILE_MB=6"
    monkeypatch.setenv("WORKBENCH_CODE_FILE_MB", "6")
    assert contents(project).left_out == {}


def test_beyond_the_limit_of_all_the_largest_are_left_out_and_python_files_last(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CODE_MB", "1")
    (project / "larger.txt").write_bytes(bytes(700_000))
    (project / "large.txt").write_bytes(bytes(600_000))
    (project / "code.py").write_bytes(b"#" * 800_000)
    kept = contents(project)
    assert set(kept.left_out) == {"larger.txt", "large.txt"}
    assert "export WORKBENCH_CODE_MB=3" in kept.left_out["large.txt"].why
    assert "code.py" in kept.files


def test_a_limit_that_is_no_number_is_bad_input(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CODE_FILE_MB", "many")
    with pytest.raises(InputError, match="WORKBENCH_CODE_FILE_MB"):
        contents(project)


@pytest.mark.parametrize("name", [".env", "conf/server.pem", "deep/id_rsa", "my credentials.json", "Secrets/db.py"])
def test_what_looks_like_a_secret_is_named_and_not_recorded(project: Path, name: str) -> None:
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("hunter2\n")
    kept = contents(project)
    assert name not in kept.files
    assert (kept.left_out[name].sha256, kept.left_out[name].why) == (None, "it looks like a secret")


def test_the_store_and_the_data_are_no_code(project: Path) -> None:
    for folder in ("mlruns", "pictures"):
        (project / folder).mkdir()
        (project / folder / "file.py").write_text("data\n")
    kept = contents(project, project / "mlruns", project / "pictures", project.parent)
    assert not [name for name in kept.files if name.startswith(("mlruns", "pictures"))]
    assert "net.py" in kept.files
    assert kept.left_out == {}


def test_other_stores_and_pages_of_the_workbench_are_no_code(project: Path) -> None:
    before = contents(project)
    for name in ("old/.lock", "old/mlflow.db", "old/key", "old/artifacts/1/model.py", "served/.lock"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    CodeStore(project / "served").keep({"net.py": File(b"a")}, "a test")
    (project.parent / "report.html").write_text('{% extends "page.html" %}')
    (project / "deep" / "report.html").write_text(render(project.parent / "report.html", None))
    assert contents(project) == before
    (project / "page.html").write_text("<!doctype html><p>The user's own.</p>")
    (project / "own" / "mlflow.db").parent.mkdir()
    (project / "own" / "mlflow.db").write_text("plain MLflow made it")
    assert contents(project).files.keys() - before.files.keys() == {"own/mlflow.db", "page.html"}


def test_without_git_all_files_are_the_project_s_but_hidden_folders(tmp_path: Path) -> None:
    for name in ("net.py", "conf/a.yaml", ".venv/lib.py", "__pycache__/net.pyc", "x.egg-info/PKG-INFO"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    assert set(contents(tmp_path).files) == {"net.py", "conf/a.yaml"}


def test_names_that_the_locale_cannot_show_are_recorded(project: Path) -> None:
    strange = project / b"caf\xe9.txt".decode(errors="surrogateescape")
    strange.write_text("strange\n")
    assert contents(project).files[strange.name].content == b"strange\n"
