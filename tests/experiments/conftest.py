"""Loading a logged model as stock MLflow does, with pickles forbidden; the figures behind plots; cheap processes."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import mlflow
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments import Store, rerun
from experiments.reproduction import again


@pytest.fixture
def load_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], Any]:
    """`mlflow.pyfunc.load_model`, which would refuse anything that needs unpickling."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return lambda path: mlflow.pyfunc.load_model(str(path))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figure of each picture that is saved from now on, by the name of its file.

    Each file must have its figure's size, and ink on white paper.
    """
    saved: dict[str, Figure] = {}
    save = Figure.savefig

    def savefig(figure: Figure, path: Path, *, dpi: int) -> None:
        saved[path.name] = figure
        save(figure, path, dpi=dpi)
        pixels = imread(path)[..., :3]
        assert pixels.shape[1::-1] == pytest.approx(figure.get_size_inches() * dpi, abs=1)
        assert pixels.min() < 0.5 < 0.99 < pixels.max()

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A fresh store for the tests of one file."""
    store = Store.open(tmp_path_factory.mktemp("own") / "store")
    store.ensure_database()
    return store


@pytest.fixture
def rerun_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`reproduce` runs again in this process, with today's code."""
    monkeypatch.setattr(again, "_call", lambda _python, _folder, _environment, job: rerun.answer(rerun.Job(**job)))


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Makes processes that are forked from one which has imported what a run needs, and has never trained."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.runner", "matplotlib.pyplot", "pytest"])
    return context
