"""Images that stay on disk: training over a .npy larger than memory need be, and what gathering from a file costs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, ModelConfig
from lightning_modules.batches import Batches
from lightning_modules.datamodule import load_dataset
from lightning_modules.normalization import fit_normalization
from lightning_modules.splits import as_published

SHAPE = (64, 64, 3)
LARGE, SMALL = 488_282, 20_000  # images: 6.0 GB and 0.25 GB
STEPS = 200
_WRITTEN = 2_000  # images of the large file that are not a hole in it


def write_large(folder: Path) -> None:
    """`large.npy`, images of 0 but for some of noise, which take no room on most file systems; `large_labels.npy`."""
    images = np.lib.format.open_memmap(folder / "large.npy", "w+", np.uint8, (LARGE, *SHAPE))
    images[:: LARGE // _WRITTEN] = _noise(len(range(0, LARGE, LARGE // _WRITTEN)))
    np.save(folder / "large_labels.npy", np.arange(LARGE) % 10)


def write_small(folder: Path) -> None:
    """`small.npy` and `small_labels.npy`: noise."""
    np.save(folder / "small.npy", _noise(SMALL))
    np.save(folder / "small_labels.npy", np.arange(SMALL) % 10)


def _noise(count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def train(folder: Path) -> float:
    """The first 200 steps over the large file, all that a run does before its first step included; how many they were."""
    data = ImageDataModule(_config(folder, "large"))
    data.setup()
    network = ModelConfig().build(data.image_shape, data.num_classes)
    trainer = pl.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(ImageClassifier(network), data)
    return trainer.global_step


def gather(folder: Path, in_memory_mb: int) -> Callable[[], float]:
    """A shuffled epoch of batches of 32 from the small file, without a network; how many images it gave."""
    dataset = load_dataset(_config(folder, "small", in_memory_mb))
    subset = as_published(dataset)["train"]
    batches = Batches(subset, fit_normalization("none", subset), 32, shuffle_seed=0)
    return lambda: sum(len(labels) for _, labels in batches)


def _config(folder: Path, name: str, in_memory_mb: int | None = None) -> DataConfig:
    paths = {"path": str(folder / f"{name}.npy"), "labels_path": str(folder / f"{name}_labels.npy")}
    return DataConfig(source="arrays", **paths, in_memory_mb=in_memory_mb)
