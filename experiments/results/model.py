"""Saves the trained network and its normalization as an MLflow model: raw images in, label and probabilities out."""

import copy
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

from experiments.artifact_names import MODEL, NETWORK
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import ImageClassifier, ImageDataModule


class _RawImages(nn.Module):
    """Maps raw images (N, H, W, C) to class probabilities (N, K)."""

    def __init__(self, normalization: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalization, self.network = normalization, network

    def forward(self, images_NHWC: Tensor) -> Tensor:
        logits_NK: Tensor = self.network(self.normalization(images_NHWC.permute(0, 3, 1, 2)))
        return logits_NK.softmax(dim=1)


def log_model(run: TrackedRun, classifier: ImageClassifier, data: ImageDataModule) -> None:
    """Saves the artifact folder `model/`: a torch.export program and the code that serves it.

    `mlflow.pyfunc.load_model("runs:/RUN_ID/model")` and `mlflow models serve` load it, even if pickles are forbidden.
    """
    run.path(NETWORK).write_text(f"{classifier.network}\n{_count(classifier.network):,} parameters\n", encoding="utf-8")
    # A copy in the contiguous memory format, because torch.export cannot handle every channels_last weight.
    trained = copy.deepcopy(classifier.network).cpu().float().to(memory_format=torch.contiguous_format)
    network = _RawImages(data.normalization, trained).eval()
    sample = torch.from_numpy(data.dataset.train.images[:2].copy())
    # Two images, because torch.export would fix the batch size at one if it saw a batch of one.
    program = torch.export.export(network, (sample,), dynamic_shapes=({0: torch.export.Dim("N")},))
    height, width, channels = sample.shape[1:]
    raw_shape = (-1, height, width) if channels == 1 else (-1, height, width, channels)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(str(sample.numpy().dtype)), raw_shape)]),
        outputs=Schema(
            [
                TensorSpec(np.dtype("int64"), (-1,), "label"),
                TensorSpec(np.dtype("float32"), (-1, data.num_classes), "probabilities"),
            ]
        ),
    )
    shutil.rmtree(run.path(MODEL), ignore_errors=True)  # a killed process may have left an incomplete one
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt2"
        torch.export.save(program, path)
        mlflow.pyfunc.save_model(
            run.path(MODEL),
            mlflow_model=Model(run_id=run.run_id, artifact_path=MODEL),
            python_model=str(Path(__file__).with_name("served_classifier.py")),
            artifacts={"program": str(path)},
            signature=signature,
            input_example=sample.numpy().reshape(2, *raw_shape[1:]),
            # Without this list, MLflow would import the model in a new process to infer the requirements.
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "numpy")] + [f"torch=={_release()}"],
            metadata={"class_names": list(data.class_names)},
        )


def _count(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _release() -> str:
    return version("torch").split("+")[0]
