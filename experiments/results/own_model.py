"""Saves a module of the user's own as an MLflow model: arrays in, arrays out, as its `forward` maps them."""

import copy
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytorch_lightning as pl
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from experiments.artifact_names import MODEL, NETWORK
from experiments.tracking.tracked_run import TrackedRun


def log_model(run: TrackedRun, module: pl.LightningModule) -> None:
    """Writes the module as text; and the folder `model/`, if its `example_input_array` says what `forward` takes."""
    run.path(NETWORK).write_text(f"{module}\n", encoding="utf-8")
    shutil.rmtree(run.path(MODEL), ignore_errors=True)  # a killed process may have left an incomplete one
    example = module.example_input_array
    if not isinstance(example, torch.Tensor):
        return
    try:
        program = trace(module, example)
    except Exception:  # the rehearsal has said so
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.pt2"
        torch.export.save(program, path)
        shape = (-1, *example.shape[1:])
        mlflow.pyfunc.save_model(
            run.path(MODEL),
            mlflow_model=Model(run_id=run.run_id, artifact_path=MODEL),
            python_model=str(Path(__file__).with_name("served_module.py")),
            artifacts={"program": str(path)},
            signature=ModelSignature(inputs=Schema([TensorSpec(np.dtype(_kind(example)), shape)])),
            input_example=example.cpu().numpy(),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "numpy", "torch")],
        )


def trace(module: pl.LightningModule, example: torch.Tensor) -> torch.export.ExportedProgram:
    """Returns the program of `forward` for any number of rows. Raises any error if torch.export cannot trace it."""
    copied = copy.deepcopy(_Forward(module)).cpu().eval()
    rows = example.cpu() if len(example) > 1 else torch.cat([example.cpu()] * 2)  # it would fix a batch size of one
    with warnings.catch_warnings(action="ignore"):
        return torch.export.export(copied, (rows,), dynamic_shapes=({0: torch.export.Dim("N")},))


class _Forward(torch.nn.Module):
    """The layers of a module without its Trainer, which cannot be copied."""

    def __init__(self, module: pl.LightningModule) -> None:
        super().__init__()
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Forward":
        trainer, self.module._trainer = self.module._trainer, None
        try:
            return _Forward(copy.deepcopy(self.module, memo))
        finally:
            self.module._trainer = trainer

    def forward(self, rows: torch.Tensor) -> Any:
        return self.module(rows)


def _kind(example: torch.Tensor) -> str:
    return str(example.dtype).removeprefix("torch.")
