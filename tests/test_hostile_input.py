"""Two thousand hostile inputs, in one process: each is read, or is refused in one line. tests/hostile.py draws them."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench
from experiments import load_config
from lightning_modules import DataConfig, InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import SourceOptions, idx
from lightning_modules.showable import showable
from sweeps import load_sweep
from tests import hostile

RANDOM = st.randoms(use_true_random=False)
_LONGEST = 15_000  # characters of a line


def cases(count: int) -> settings:
    """The same cases on every machine, with no limit on the time of one."""
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=health)


def read_or_refused(read: Callable[[], object]) -> None:
    """Asserts that `read` returns, or raises an error for the user: one line that can be shown."""
    refused: InputError | None = None
    try:
        read()
    except InputError as error:
        refused = error
    if refused is not None:
        assert str(refused) == showable(str(refused), _LONGEST)
        assert refused.remedy


@pytest.fixture
def folder() -> Iterator[Path]:
    """One for all cases of a test, whose names are short."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def new_folder(folder: Path) -> Callable[[], Path]:
    return lambda: Path(tempfile.mkdtemp(dir=folder))


@cases(700)
@given(draw=RANDOM)
def test_recipes(folder: Path, draw: Random) -> None:
    path = folder / "recipe.yaml"
    path.write_text(hostile.recipe(draw), encoding="utf-8", errors="surrogatepass")
    read_or_refused(lambda: load_config(str(path)).to_yaml())


@cases(300)
@given(draw=RANDOM)
def test_sweep_recipes(folder: Path, draw: Random) -> None:
    path = folder / "sweep.yaml"
    path.write_text(hostile.sweep_recipe(draw), encoding="utf-8", errors="surrogatepass")
    read_or_refused(lambda: load_sweep(str(path)).identity())


@cases(200)
@given(draw=RANDOM)
def test_command_lines(folder: Path, draw: Random, capsys: pytest.CaptureFixture[str]) -> None:
    words = hostile.command_line(draw, folder)
    try:
        code = workbench.main(words)
    except SystemExit as ended:  # --help
        code = int(ended.code or 0)
    printed = capsys.readouterr()
    assert code in {0, 1, 2}, printed.err
    assert "Traceback" not in printed.err
    if code == 2:
        last = printed.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert last == showable(last, _LONGEST)


@cases(500)
@given(draw=RANDOM)
def test_arrays(new_folder: Callable[[], Path], draw: Random) -> None:
    fields = hostile.arrays(draw, new_folder())
    read_or_refused(lambda: load_dataset(load_config("arrays", fields).data).sha256)


@cases(200)
@given(draw=RANDOM)
def test_idx_files(new_folder: Callable[[], Path], draw: Random) -> None:
    root = new_folder()
    (root / "tiny").mkdir()
    files = {name: hostile.idx(draw) for name in ("train-x.gz", "train-y.gz", "test-x.gz", "test-y.gz")}
    for name, contents in files.items():
        (root / "tiny" / name).write_bytes(contents)
    sha256 = {name: hashlib.sha256(contents).hexdigest() for name, contents in files.items()}
    release = idx._Release(name="tiny", summary="", sha256=sha256, mirrors=(), class_names=("a", "b"))
    read_or_refused(lambda: idx._load(release, SourceOptions(root=str(root))))


@cases(100)
@given(draw=RANDOM)
def test_folders_of_pictures(new_folder: Callable[[], Path], draw: Random) -> None:
    folder = new_folder()
    fields = hostile.pictures(draw, folder)
    read_or_refused(lambda: load_dataset(load_config("image_folder", fields | {"data.root": str(folder)}).data).sha256)


def test_a_config_that_python_makes_is_checked_too() -> None:
    with pytest.raises(InputError, match=r"^data\.path: is longer than any path"):
        DataConfig(source="arrays", path="x" * 5_000)
