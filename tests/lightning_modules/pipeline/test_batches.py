"""Batches: which images, in which order, in which form."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from lightning_modules import AugmentationConfig, DataConfig, ImageClassifier, ImageDataModule
from lightning_modules.datasets import ImageDataset
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.normalization import fit_normalization
from lightning_modules.pipeline.splits import Subset

MakeBatches = Callable[..., Batches]


@pytest.fixture
def make_batches(numbered: ImageDataset) -> MakeBatches:
    """Batches of 4 over images 10, 12, … 28, raw: pixel (0, 0) of each is its number."""
    subset = Subset(numbered.train.images, numbered.train.labels, np.arange(10, 30, 2))
    return lambda **options: Batches(subset, fit_normalization("none", subset), 4, **options)


def order(batches: Batches) -> list[int]:
    """Which images one epoch gives, in its order."""
    return [round(float(image[0, 0, 0])) for images, _ in batches for image in images]


def test_without_a_shuffle_seed_images_keep_their_order(make_batches: MakeBatches) -> None:
    batches = make_batches()
    assert order(batches) == order(batches) == list(range(10, 30, 2))


def test_the_last_batch_is_short(make_batches: MakeBatches) -> None:
    assert [len(labels) for _, labels in make_batches()] == [4, 4, 2]
    assert len(make_batches()) == 3


def test_a_batch_is_float32_images_channels_first_with_int64_labels(make_batches: MakeBatches) -> None:
    images, labels = next(iter(make_batches()))
    assert (images.dtype, images.shape) == (torch.float32, (4, 1, 2, 3))
    assert (labels.dtype, labels.shape) == (torch.int64, (4,))


@pytest.mark.parametrize("augmentation", [AugmentationConfig(), AugmentationConfig(noise=0.1)])
def test_labels_follow_their_images(
    augmentation: AugmentationConfig, make_batches: MakeBatches, numbered: ImageDataset
) -> None:
    batches = make_batches(shuffle_seed=0, augmentation=augmentation)
    labels = [label for _, labels_N in batches for label in labels_N.tolist()]
    batches.sampler.set_epoch(0)
    assert labels == numbered.train.labels[order(batches)].tolist()


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(make_batches: MakeBatches) -> None:
    batches = make_batches(shuffle_seed=0)
    epochs = [order(batches) for _ in range(3)]
    assert all(sorted(epoch) == list(range(10, 30, 2)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_another_seed_gives_another_order(make_batches: MakeBatches) -> None:
    assert order(make_batches(shuffle_seed=0)) != order(make_batches(shuffle_seed=1))


def test_neighbouring_seeds_never_share_an_epoch(make_batches: MakeBatches) -> None:
    zero, one = make_batches(shuffle_seed=0), make_batches(shuffle_seed=1)
    order(zero)
    assert order(zero) != order(one)  # seed 0's second epoch, seed 1's first


def pixels(batches: Batches, epoch: int) -> Tensor:
    batches.sampler.set_epoch(epoch)
    return torch.cat([images for images, _ in batches])


def test_seed_and_epoch_decide_order_and_augmentation_whatever_ran_before(make_batches: MakeBatches) -> None:
    every = AugmentationConfig(shift=1, horizontal_flip=True, rotation=20, erasing=0.5, noise=3)
    options = {"shuffle_seed": 5, "sampling": "balanced", "augmentation": every}
    first, second = make_batches(**options), make_batches(**options)
    order(second)
    torch.rand(3)
    assert torch.equal(pixels(first, epoch=2), pixels(second, epoch=2))
    assert not torch.equal(pixels(first, epoch=3), pixels(second, epoch=2))


def test_an_epoch_left_early_changes_nothing_about_the_next(make_batches: MakeBatches) -> None:
    every = AugmentationConfig(shift=1, horizontal_flip=True, rotation=20, erasing=0.5, noise=3)
    options = {"shuffle_seed": 5, "augmentation": every}
    left, whole = make_batches(**options), make_batches(**options)
    images, _ = next(iter(left))
    assert torch.equal(images, pixels(whole, epoch=0)[:4])
    assert torch.equal(pixels(left, epoch=0), pixels(whole, epoch=0))


def test_augmentation_leaves_the_order_as_it_is(make_batches: MakeBatches) -> None:
    flip = AugmentationConfig(horizontal_flip=True)
    plain, flipped = make_batches(shuffle_seed=5), make_batches(shuffle_seed=5, augmentation=flip)
    assert [order(plain), order(plain)] != [order(flipped), order(flipped)]
    assert plain.order_sha256 == flipped.order_sha256


@dataclass(frozen=True, kw_only=True)
class Counted(AugmentationConfig):
    """Notes how many images each call is given."""

    calls: list[int] = field(default_factory=list)

    def apply(self, images_NHWC: Tensor, generator: torch.Generator) -> Tensor:
        self.calls.append(len(images_NHWC))
        return super().apply(images_NHWC, generator)


@pytest.mark.parametrize(
    ("batch_size", "calls"),
    [(1, [4, 4, 2]), (2, [4, 4, 2]), (3, [3, 3, 3, 1]), (4, [4, 4, 2]), (5, [5, 5]), (10, [10])],
)
def test_a_call_augments_whole_batches_up_to_a_million_pixels_or_a_single_one(
    batch_size: int, calls: list[int]
) -> None:
    labels = np.arange(10)
    large = Subset(np.full((10, 512, 512, 1), labels[:, None, None, None], np.uint8), labels, labels)
    counted = Counted(horizontal_flip=True)
    normalization = fit_normalization("none", large)
    batches = list(Batches(large, normalization, batch_size, shuffle_seed=0, augmentation=counted))
    assert counted.calls == calls
    assert [len(images) for images, _ in batches] == [min(batch_size, 10 - k) for k in range(0, 10, batch_size)]
    assert all(torch.equal(images[:, 0, 0, 0].long(), labels_N) for images, labels_N in batches)


def test_shuffling_leaves_the_global_random_state_alone(make_batches: MakeBatches) -> None:
    before = torch.get_rng_state()
    every = AugmentationConfig(shift=1, rotation=20, erasing=0.5, noise=3)
    order(make_batches(shuffle_seed=0, sampling="balanced", augmentation=every))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_moved_raw_and_normalized_after(numbered: ImageDataset) -> None:
    subset = Subset(numbered.train.images, numbered.train.labels, np.arange(50))
    normalization = fit_normalization("per_pixel", subset)
    batches = Batches(subset, normalization, 50, shuffle_seed=0, augmentation=AugmentationConfig(shift=9))
    (images, _), *_ = batches
    black = normalization(torch.zeros(1, 1, 2, 3, dtype=torch.uint8))[0]
    assert any(torch.equal(image, black) for image in images)  # moved out of sight: raw 0 everywhere


def test_training_gives_each_epoch_its_own_order(
    numbered: ImageDataset, make_trainer: Callable[..., Trainer], recorder: Any
) -> None:
    data = ImageDataModule(DataConfig(normalization="none"), seed=3, dataset=numbered)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    make_trainer(max_epochs=2, callbacks=[recorder]).fit(ImageClassifier(network), data)
    expected = torch.cat([pixels(data.train_dataloader(), epoch) for epoch in (0, 1)])
    assert torch.equal(torch.cat(recorder.images), expected)
