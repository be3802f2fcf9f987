"""The archive of the code that git does not keep."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.provenance import source_copy
from experiments.provenance.source import Checkout, find_checkout
from experiments.provenance.source_copy import SourceCopy, copy_sources, own_folders


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two imported modules, in a folder of its own."""
    folder = tmp_path / "mine"
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "net.py").write_text("import own_helper\n")
    (folder / "own_helper.py").write_text("one = 1\n")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module("own_package.net")
    yield folder
    for name in ("own_package", "own_package.net", "own_helper"):
        sys.modules.pop(name)


def new_checkout(folder: Path) -> Checkout:
    folder.mkdir(exist_ok=True)
    for words in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message", "first")):
        identity = ("-c", "user.name=A Tester", "-c", "user.email=tester@example.com")
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True)
    found = find_checkout(folder, Path("/a/store/elsewhere"))
    assert found is not None
    return found


def test_modules_from_outside_of_the_checkout_are_kept(own_package: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    copied = copy_sources(project, new_checkout(project), [own_package])
    names = ("own_helper.py", "own_package/__init__.py", "own_package/net.py")
    assert copied.files == {f"user/{name}": (own_package / name).read_bytes() for name in names}


def test_modules_in_the_checkout_are_git_s(own_package: Path) -> None:
    assert copy_sources(own_package, new_checkout(own_package), [own_package]) == SourceCopy({}, ())


def test_an_imported_module_that_gitignore_names_is_kept(own_package: Path) -> None:
    (own_package / ".gitignore").write_text("*helper*\n")
    copied = copy_sources(own_package, new_checkout(own_package), [own_package])
    assert copied.files == {"own_helper.py": b"one = 1\n"}


def test_a_built_in_network_brings_no_modules(tmp_path: Path) -> None:
    assert copy_sources(
        tmp_path / "new", new_checkout(tmp_path / "new"), own_folders({"network": "BaselineCNN"})
    ) == SourceCopy({}, ())


def test_an_installed_part_has_no_folder_of_the_user_s() -> None:
    assert own_folders({"model": {"network": "torch.nn.Linear"}, "metrics": ["torchmetrics.F1Score"]}) == []


def test_each_part_of_the_user_s_own_brings_its_folder(own_package: Path) -> None:
    config = {"trainer": {"metrics": ["torch.nn.Linear", {"kind": "own_package.net.Net", "args": {}}]}, "seed": 3}
    assert own_folders(config) == [own_package]


def test_a_large_file_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "large.txt").write_bytes(bytes(1_000_001))
    (tmp_path / "pyproject.toml").write_text("code\n")
    assert copy_sources(tmp_path, None, []) == SourceCopy({"pyproject.toml": b"code\n"}, ("sweeps/large.txt",))


def test_too_much_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_copy, "MAX_TOTAL", 4)
    (tmp_path / "pyproject.toml").write_text("code\n")
    assert copy_sources(tmp_path, None, []) == SourceCopy({}, ("everything (5 bytes are more than 4)",))


def test_the_archive_of_the_same_files_is_the_same() -> None:
    copied = SourceCopy({"a.py": b"1\n", "b/c.py": b"2\n"}, ())
    assert copied.to_zip() == SourceCopy(dict(copied.files), ()).to_zip()
