"""Loading a logged model as stock MLflow does, with pickles forbidden."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest


@pytest.fixture
def load_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], Any]:
    """`mlflow.pyfunc.load_model`, which would refuse anything that needs unpickling."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return lambda path: mlflow.pyfunc.load_model(str(path))
