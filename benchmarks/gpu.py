"""Training on a GPU: ImageClassifier in a plain Trainer, compared with the textbook loop.

For GPU machines with few packages: needs what `lightning_modules` needs; works without experiments, MLflow and Optuna.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import textbook_pytorch
from benchmarks.comparisons import GpuCase
from benchmarks.pairs import measure_pairs
from benchmarks.plain_trainer import fit_and_test
from benchmarks.processes import Result
from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, ModelConfig
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.base import LabelledImages


def measure(device: str, images: int, epochs: int, pairs: int, cases: Sequence[GpuCase]) -> Iterator[dict[str, Any]]:
    """A row for each case. One process runs both sides: neither leaves anything behind."""
    dataset, source = _dataset(images)
    for case in cases:
        splits = _tensors(_data(case, dataset))
        trained = len(splits["train"][1]) * epochs
        row = {"name": case.name, "device": _device_name(device), "source": source}
        row |= {"images": len(splits["train"][1]), "epochs": epochs}
        row |= measure_pairs(_ours(case, dataset, device, epochs), _theirs(case, splits, device, epochs), pairs)
        yield row | {"images_per_second": [trained / seconds for seconds in row["seconds"]]}


def _ours(case: GpuCase, dataset: ImageDataset, device: str, epochs: int) -> Callable[[], Result]:
    def measure() -> Result:
        data = _data(case, dataset)
        network = ModelConfig().build(data.image_shape, data.num_classes)
        train = partial(fit_and_test, accelerator=device, precision=case.precision)
        return _timed(lambda: train(ImageClassifier(network), data, epochs), device)

    return measure


def _theirs(case: GpuCase, splits: dict[str, tuple[Tensor, Tensor]], device: str, epochs: int) -> Callable[[], Result]:
    bf16 = case.precision == "bf16-mixed"
    train = partial(textbook_pytorch.train, batch_size=case.batch_size, device=device, bf16=bf16)
    return lambda: _timed(lambda: train(splits, epochs), device)


def _timed(train: Callable[[], float], device: str) -> Result:
    """Times from normalized data to the accuracy on test. That is a number on the host, so the GPU has finished."""
    gc.collect()  # what the previous training has left on the GPU
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    train()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0}


def _data(case: GpuCase, dataset: ImageDataset) -> ImageDataModule:
    data = ImageDataModule(DataConfig(source="fashion_mnist", batch_size=case.batch_size), dataset=dataset)
    data.setup()
    return data


def _dataset(images: int) -> tuple[ImageDataset, str]:
    """Fashion-MNIST if WORKBENCH_DATA has it, else random images of its shape; and which of the two it is.

    After a tenth is set aside for validation, `images` are left for training. The test set is a sixth as large.
    """
    count, test_count = round(images / 0.9), round(images / 0.9 / 6)
    folder = os.environ.get("WORKBENCH_DATA")
    if folder and (Path(folder) / "fashion_mnist").is_dir() and find_spec("pooch"):  # it checks the files
        whole, source = load_dataset(DataConfig(source="fashion_mnist")), "Fashion-MNIST"
        assert whole.test is not None
        parts = [(whole.train.images, whole.train.labels), (whole.test.images, whole.test.labels)]
    else:
        draw, source = np.random.default_rng(0), "random"
        parts = [
            (draw.integers(0, 256, (size, 28, 28, 1), np.uint8), draw.integers(0, 10, size))
            for size in (count, test_count)
        ]
    train, test = (LabelledImages(x[:size], y[:size]) for (x, y), size in zip(parts, (count, test_count), strict=True))
    return ImageDataset(train=train, test=test, class_names=tuple("0123456789")), source


def _tensors(data: ImageDataModule) -> dict[str, tuple[Tensor, Tensor]]:
    """The same splits for the textbook version, on the host: normalized float images (N, 1, 28, 28) and labels."""
    return {
        name: (
            data.normalization(torch.from_numpy(subset.images[subset.indices]).permute(0, 3, 1, 2)).contiguous(),
            torch.from_numpy(subset.targets),
        )
        for name, subset in data.splits.items()
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device
