"""Saves the trained network and its normalization as an MLflow model: raw images in, labels and probabilities out."""

import copy
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils import environment
from torch import Tensor, nn

from experiments.artifact_names import MODEL, NETWORK
from experiments.code.own import as_loaded, own_folders, own_modules
from experiments.code.snapshot import PROJECT
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import ImageClassifier, ImageDataModule, ModelConfig
from lightning_modules.networks import network_call

_NEEDS = ("mlflow", "numpy")
_NEEDS_OF_LIGHTNING_MODULES = ("lazy_loader", "pydantic", "pytorch-lightning", "scikit-learn")


class _Front(nn.Module):
    """Maps raw images (N, H, W, C) to what the network reads, (N, C, H, W)."""

    def __init__(self, data: ImageDataModule) -> None:
        super().__init__()
        self.normalization, self.fitting = data.normalization, data.fitting

    def forward(self, images_NHWC: Tensor) -> Tensor:
        fitted_NCHW: Tensor = self.fitting(self.normalization(images_NHWC.permute(0, 3, 1, 2)))
        return fitted_NCHW


class _Whole(nn.Module):
    """Maps raw images (N, H, W, C) to class probabilities (N, K)."""

    def __init__(self, front: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.front, self.network = front, network

    def forward(self, images_NHWC: Tensor) -> Tensor:
        logits_NK: Tensor = self.network(self.front(images_NHWC))
        return logits_NK.softmax(dim=1)


def log_model(run: TrackedRun, config: ModelConfig, classifier: ImageClassifier, data: ImageDataModule) -> None:
    """Saves the artifact folder `model/`: a torch.export program, and the code that serves it.

    Of a network that torch.export cannot trace, the folder has the weights and the source files instead; the program
    then holds only what comes before the network. `mlflow.pyfunc.load_model("runs:/RUN_ID/model")` and
    `mlflow models serve` load both, even if pickles are forbidden.
    """
    run.path(NETWORK).write_text(f"{classifier.network}\n{_count(classifier.network):,} parameters\n", encoding="utf-8")
    network, front = classifier.network, _Front(data).eval()
    shutil.rmtree(run.path(MODEL), ignore_errors=True)  # a killed process may have left an incomplete one
    with tempfile.TemporaryDirectory() as folder:
        files = _Files(Path(folder))
        try:
            files.keep(trace(network, data))
        except Exception:  # torch.export and the user's code raise many kinds; the rehearsal has said why
            files.keep(_export(front, data))
            files.keep_sources(network, config, data)
        files.write_facts(data)
        height, width, channels = data.dataset.train.images.shape[1:]
        sample = data.dataset.train.images[:2]
        with _without_check_of_requirements():
            mlflow.pyfunc.save_model(
                run.path(MODEL),
                mlflow_model=Model(run_id=run.run_id, artifact_path=MODEL),
                python_model=str(Path(__file__).with_name("served_classifier.py")),
                artifacts=files.artifacts,
                code_paths=files.code or None,
                signature=_signature(data),
                input_example=sample.reshape(2, height, width, *([channels] if channels > 1 else [])),
                # Without this list, MLflow would import the model in a new process to infer the requirements.
                pip_requirements=[f"{name}=={version(name)}" for name in files.needs] + [f"torch=={_release()}"],
                metadata={"class_names": list(data.class_names)},
            )


def trace(network: nn.Module, data: ImageDataModule) -> torch.export.ExportedProgram:
    """Returns the program from raw images to probabilities. Raises any error if torch.export cannot trace it."""
    return _export(whole(network, data), data)


def whole(network: nn.Module, data: ImageDataModule) -> nn.Module:
    """Returns a module on the CPU from raw images (N, H, W, C) to probabilities (N, K)."""
    return _Whole(_Front(data), _plain(network)).eval()


def _export(module: nn.Module, data: ImageDataModule) -> torch.export.ExportedProgram:
    """Returns the program of `module`, which takes any number of raw images."""
    sample = torch.from_numpy(data.dataset.train.images[:2].copy())
    # Two images, because torch.export would fix the batch size at one if it saw a batch of one.
    with warnings.catch_warnings(action="ignore"):  # it warns of what it can trace nevertheless
        return torch.export.export(module, (sample,), dynamic_shapes=({0: torch.export.Dim("N")},))


def _plain(network: nn.Module) -> nn.Module:
    """Returns a copy on the CPU, not compiled, and contiguous: torch.export cannot handle all channels_last weights."""
    copied: nn.Module = copy.deepcopy(getattr(network, "_orig_mod", network)).cpu().float()
    contiguous: nn.Module = copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return contiguous


class _Files:
    """The files of a model, gathered in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._network: dict[str, Any] | None = None
        self.artifacts: dict[str, str] = {}
        self.code: list[str] = []
        self.needs = list(_NEEDS)

    def keep(self, program: torch.export.ExportedProgram) -> None:
        torch.export.save(program, self._path("program", "program.pt2"))

    def keep_sources(self, network: nn.Module, config: ModelConfig, data: ImageDataModule) -> None:
        """Writes the weights, and copies the source files that make the network."""
        from safetensors.torch import save_model

        save_model(_plain(network), str(self._path("weights", "model.safetensors")))
        path, arguments = network_call(config.network, config.network_args, data.image_shape, data.num_classes)
        self._network = {"path": path, "arguments": arguments, "shape": list(data.image_shape)}
        self.needs += ["safetensors", *packages_distributions().get(path.partition(".")[0], [])]
        own = own_modules(own_folders(path))
        for name, source in own.items():
            copied = self._folder / "code" / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(as_loaded(source))
        if any("lightning_modules" in source.read_text(encoding="utf-8") for source in own.values()):
            shutil.copytree(
                PROJECT / "lightning_modules",
                self._folder / "code" / "lightning_modules",
                ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=lambda source, target: Path(target).write_bytes(as_loaded(Path(source))),
            )
            self.needs += _NEEDS_OF_LIGHTNING_MODULES
        self.code = [str(entry) for entry in sorted((self._folder / "code").glob("*"))]

    def write_facts(self, data: ImageDataModule) -> None:
        """Writes what the serving code must know."""
        facts = {
            "class_names": list(data.class_names),
            "labels": data.dataset.labels,
            "image_shape": list(data.dataset.train.images.shape[1:]),
            "network": self._network,
        }
        self._path("facts", "facts.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")

    def _path(self, artifact: str, name: str) -> Path:
        self.artifacts[artifact] = str(self._folder / name)
        return self._folder / name


def _signature(data: ImageDataModule) -> ModelSignature:
    images, is_gray = data.dataset.train.images, data.dataset.train.images.shape[3] == 1
    raw_shape = (-1, -1, -1) if is_gray else (-1, -1, -1, -1)
    labels = np.dtype("int64") if data.dataset.has_integer_labels else np.dtype("str")
    outputs = [
        TensorSpec(labels, (-1,), "label"),
        TensorSpec(np.dtype("int64"), (-1,), "label_index"),
        TensorSpec(np.dtype("float32"), (-1, data.num_classes), "probabilities"),
        TensorSpec(np.dtype("str"), (data.num_classes,), "class_names"),
    ]
    return ModelSignature(inputs=Schema([TensorSpec(np.dtype(str(images.dtype)), raw_shape)]), outputs=Schema(outputs))


@contextmanager
def _without_check_of_requirements() -> Iterator[None]:
    """MLflow would look through all installed packages for those that differ from the list, which takes a second."""
    check = environment.warn_dependency_requirement_mismatches
    environment.warn_dependency_requirement_mismatches = lambda _: None
    try:
        yield
    finally:
        environment.warn_dependency_requirement_mismatches = check


def _count(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _release() -> str:
    return version("torch").split("+")[0]
