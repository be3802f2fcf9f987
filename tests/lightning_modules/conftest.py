"""What these tests share: a quiet Trainer, and a data set whose images tell who they are."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.datasets import ImageDataset, LabelledImages


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On images this small a second thread gains nothing, and waits long where the other core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., Trainer]:
    """A plain Trainer that leaves nothing behind and prints nothing."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lambda **options: Trainer(**quiet, accelerator="cpu", devices=1, enable_model_summary=False, **options)


@pytest.fixture(scope="session")
def numbered() -> ImageDataset:
    """100 gray images of 2×3 pixels, no official split, labels in no order: 80 of class a, 20 of class b.

    Pixel (0, 0) of image i is i, pixel (1, 2) is always 7, the rest is noise.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 2, 3, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(100)
    images[:, 1, 2, 0] = 7
    labels = rng.permutation(np.repeat([0, 1], [80, 20]))
    return ImageDataset(LabelledImages(images, labels), ("a", "b"))


class Recorder(Callback):
    """What each training step saw: the learning rate it used and its images."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.images: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.images.append(batch[0])


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
