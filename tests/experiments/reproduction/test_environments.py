"""Virtual environments with recorded packages; no index is asked."""

import platform
import subprocess
import zipfile
from pathlib import Path

import pytest

from experiments.errors import CannotRun
from experiments.provenance.packages import installed_in
from experiments.reproduction.environments import other_files, recorded_python

PYTHON = platform.python_version()


def make_wheel(folder: Path, version: str) -> None:
    """wb-tiny, a distribution of one module."""
    folder.mkdir(exist_ok=True)
    info = f"wb_tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"wb_tiny-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("wb_tiny.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: wb-tiny\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds wb-tiny 1.0 and 2.0, and nothing else."""
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheels", version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


def test_the_recorded_version_is_installed_whatever_pythonpath_holds_and_kept(
    tmp_path: Path, no_index: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "wheels" / "wb_tiny-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path / "today")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "today"))
    python = recorded_python(tmp_path / "environments", PYTHON, "wb-tiny==1.0\n")
    told = subprocess.run(
        [python, "-I", "-c", "import wb_tiny; print(wb_tiny.__file__)"], capture_output=True, text=True
    )
    assert told.stdout.startswith(str(python.parents[1]))
    (tmp_path / "wheels").rename(tmp_path / "gone")
    assert recorded_python(tmp_path / "environments", PYTHON, "wb-tiny==1.0\n") == python


def test_a_package_that_is_not_to_be_had_leaves_nothing_behind(tmp_path: Path, no_index: None) -> None:
    with pytest.raises(CannotRun) as refused:
        recorded_python(tmp_path / "environments", PYTHON, "wb-tiny==3.0\n")
    assert refused.value.message == (
        "the recorded packages could not be installed: ERROR: No matching distribution found for wb-tiny==3.0"
    )
    assert [path for path in (tmp_path / "environments").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "line",
    [
        "-e file:///tmp/x",
        "--index-url http://host/",
        "x @ file:///tmp/x",
        "x>=1",
        "./x",
        "x==1 --hash=sha256:0",
        "x==*",
    ],
)
def test_pip_gets_pins_and_nothing_else(tmp_path: Path, line: str) -> None:
    with pytest.raises(CannotRun, match="not NAME==VERSION"):
        recorded_python(tmp_path / "environments", PYTHON, f"# a comment\nwb-tiny==1.0\n{line}\n")
    assert not (tmp_path / "environments").exists()


def test_other_files_than_the_recorded_ones_are_named(tmp_path: Path, no_index: None) -> None:
    python = recorded_python(tmp_path / "environments", PYTHON, "wb-tiny==1.0\n")
    (site_packages,) = python.parents[1].glob("lib/python*/site-packages")
    (found,) = [package for package in installed_in(site_packages) if package.name == "wb-tiny"]
    assert other_files(python, {"wb-tiny": found.as_dict()}) == []
    assert other_files(python, {"wb-tiny": found.as_dict() | {"files_sha256": "0" * 64}}) == ["wb-tiny 1.0"]


def test_another_python_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"Python 2\.4, which is not installed; install python2\.4"):
        recorded_python(tmp_path / "environments", "2.4.6", "wb-tiny==1.0\n")
