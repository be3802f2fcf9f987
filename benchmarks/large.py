"""Images that stay on disk: a run over a .npy of 6 GB, and the cost of gathering batches from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from experiments import Store, load_config, runner
from lightning_modules.datamodule import load_dataset
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.normalization import fit_normalization
from lightning_modules.pipeline.splits import as_published

SHAPE = (64, 64, 3)
LARGE, SMALL = 488_282, 20_000  # images: 6.0 GB and 0.25 GB
STEPS = 200
_WRITTEN = 2_000  # images of the large file that are really written; the rest is a hole in the file


def write_large(folder: Path) -> None:
    """`large.npy` and `large_labels.npy`. Most images are 0, and take no space on most file systems; some are noise."""
    images = np.lib.format.open_memmap(folder / "large.npy", "w+", np.uint8, (LARGE, *SHAPE))
    images[:: LARGE // _WRITTEN] = _noise(len(range(0, LARGE, LARGE // _WRITTEN)))
    np.save(folder / "large_labels.npy", np.arange(LARGE) % 10)


def write_small(folder: Path) -> None:
    """`small.npy` and `small_labels.npy`: noise."""
    np.save(folder / "small.npy", _noise(SMALL))
    np.save(folder / "small_labels.npy", np.arange(SMALL) % 10)


def _noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


class Stop(pl.Callback):
    """Ends training after `STEPS` steps, as if the epoch were over."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= STEPS


def large(folder: Path) -> float:
    """A whole tracked run of 200 steps over the large file; 1 % of it validates and 1 % tests."""
    overrides = {"trainer.max_epochs": 1, "trainer.threads": 2, "trainer.accelerator": "cpu"}
    overrides |= {"data.val_fraction": 0.01, "data.test_fraction": 0.01} | _paths(folder, "large")
    result = runner.run(load_config("arrays", overrides), store=Store.open(folder / "large"), callbacks=[Stop()])
    return result.metrics["test/accuracy"]


def gather(folder: Path, in_memory_mb: int) -> Callable[[], float]:
    """One shuffled epoch of batches of 32 from the small file, without a network; returns the number of images."""
    config = load_config("arrays", _paths(folder, "small") | {"data.in_memory_mb": in_memory_mb}).data
    subset = as_published(load_dataset(config))["train"]
    batches = Batches(subset, fit_normalization("none", subset), 32, shuffle_seed=0)
    return lambda: sum(len(labels) for _, labels in batches)


def _paths(folder: Path, name: str) -> dict[str, Any]:
    return {"data.path": str(folder / f"{name}.npy"), "data.labels_path": str(folder / f"{name}_labels.npy")}
