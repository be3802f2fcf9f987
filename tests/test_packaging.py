"""The wheel holds all that the command line needs: it runs without the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*words: str | Path, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel, built from a copy of the committed and uncommitted files, was installed into."""
    home = tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (home / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "source" / name).write_bytes((ROOT / name).read_bytes())
    offline = ("--no-deps", "--no-index", "--quiet")
    call("-m", "pip", "wheel", home / "source", "--no-build-isolation", *offline, "--wheel-dir", home, cwd=home)
    (wheel,) = home.glob("*.whl")
    call("-m", "pip", "install", wheel, *offline, "--target", home / "installed", cwd=home)
    return home / "installed"


def test_the_wheel_trains_digits_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = call("-c", "import workbench; print(workbench.__file__)", cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed)
    words = ("train", "digits", "--trainer.max_epochs", "1", "--store", tmp_path / "store")
    shown = call("-m", "workbench", *words, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "(digits, finished)" in shown


def test_an_example_works_elsewhere_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "regression", tmp_path / "mine")
    words = ("train", "diabetes.yaml", "--trainer.max_epochs", "1")
    assert "finished)" in call("-m", "workbench", *words, cwd=tmp_path / "mine", PYTHONPATH=str(installed))


def test_the_wheel_holds_every_source_and_recipe(installed: Path) -> None:
    floors = ("workbench", "sweeps", "experiments", "lightning_modules")
    wanted = {path.relative_to(ROOT) for floor in floors for path in (ROOT / floor).rglob("*.*")}
    wanted = {path for path in wanted if path.suffix in {".py", ".pyi", ".yaml"}}
    assert {path for path in wanted if not (installed / path).exists()} == set()
