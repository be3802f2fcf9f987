"""The images that all versions train on: `data.npz` with uint8 images (N, 28, 28) and labels of each split."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from torch import Tensor

FILE = "data.npz"


def write(folder: Path, images: int) -> None:
    """Writes Fashion-MNIST in the recipe's splits: the first `images` of train, and the same share of val and test."""
    from experiments import load_config
    from lightning_modules import ImageDataModule

    data = ImageDataModule(load_config("fashion_mnist").data)
    data.setup()
    share = min(1.0, images / len(data.splits["train"]))
    arrays = {}
    for name, subset in data.splits.items():
        chosen = subset.indices[: round(share * len(subset))]
        arrays[f"x_{name}"] = subset.images[chosen].squeeze(-1)
        arrays[f"y_{name}"] = subset.labels[chosen]
    np.savez(folder / FILE, **arrays)


def standardized(folder: Path) -> dict[str, tuple[Any, Any]]:
    """The splits as float images (N, 28, 28, 1) and labels: StandardScaler fitted on train, as in textbooks."""
    arrays = np.load(folder / FILE)
    scaler = StandardScaler().fit(arrays["x_train"].reshape(len(arrays["x_train"]), -1))
    splits = {}
    for name in ("train", "val", "test"):
        images = arrays[f"x_{name}"]
        scaled = scaler.transform(images.reshape(len(images), -1)).astype(np.float32)
        splits[name] = (scaled.reshape(*images.shape, 1), arrays[f"y_{name}"])
    return splits


def tensors(folder: Path) -> dict[str, tuple["Tensor", "Tensor"]]:
    """The same as tensors, channels first: (N, 1, 28, 28)."""
    import torch  # the Keras version does not need it

    return {
        name: (torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
        for name, (images, labels) in standardized(folder).items()
    }
