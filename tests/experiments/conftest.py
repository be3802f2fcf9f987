"""Loading a logged model as stock MLflow does, with pickles forbidden; processes that cost no imports."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import mlflow
import pytest


@pytest.fixture
def load_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], Any]:
    """`mlflow.pyfunc.load_model`, which would refuse anything that needs unpickling."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return lambda path: mlflow.pyfunc.load_model(str(path))


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Makes processes that are forked from one which has imported what a run needs, and has never trained."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.runner", "matplotlib.pyplot", "pytest"])
    return context
