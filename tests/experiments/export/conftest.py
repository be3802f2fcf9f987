"""An export of a run on digits, and a way to use it where this project cannot be imported."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import Store
from experiments.code.snapshot import FLOORS
from experiments.export.export import export
from experiments.serving.loaded import LoadedModel, load_model
from lightning_modules import DataConfig, ImageDataModule

# First in every script: any import of the project fails.
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FLOORS!r}:
            raise ModuleNotFoundError(f"{{name}} is this project")

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="session")
def digits_export(
    digits_store: Path, first_run: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder of an export of the run `first` in all formats, and what the export returned."""
    folder = tmp_path_factory.mktemp("export") / "made" / "digits"
    return folder, export(Store.open(digits_store), first_run.info.run_id, folder, quantize=True)


@pytest.fixture(scope="session")
def original(digits_store: Path, first_run: Any) -> LoadedModel:
    return load_model(Store.open(digits_store), first_run.info.run_id)


@pytest.fixture(scope="session")
def digits_of_test() -> tuple[np.ndarray, np.ndarray]:
    """All images (N, H, W, C) of test, and their labels."""
    data = ImageDataModule(DataConfig(source="digits"))
    data.setup()
    test = data.splits["test"]
    return np.asarray(test.images[test.indices]), test.targets


@pytest.fixture
def run_clean(tmp_path: Path) -> Callable[..., Any]:
    """Runs Python code where nothing of this project can be imported; returns the JSON that it prints."""

    def call(code: str, *words: str | Path, environment: dict[str, str] | None = None) -> Any:
        command = [sys.executable, "-I", "-W", "ignore", "-c", BLOCKED + textwrap.dedent(code), *map(str, words)]
        variables = {**os.environ, **(environment or {})}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call
