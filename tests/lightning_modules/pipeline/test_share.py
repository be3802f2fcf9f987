"""The parts of a batch that several processes train on: together they are the batch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import AugmentationConfig, DataConfig, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.normalization import fit_normalization
from lightning_modules.pipeline.share import Share
from lightning_modules.pipeline.splits import Subset

MakeBatches = Callable[..., Batches]


@pytest.fixture
def make_batches(numbered: ImageDataset) -> MakeBatches:
    """Batches of 4 over images 10, 11, … 19, raw: pixel (0, 0) of each is its number. The last batch has two."""
    subset = Subset(numbered.train.images, numbered.train.labels, np.arange(10, 20))
    return lambda **options: Batches(subset, fit_normalization("none", subset), 4, **options)


def numbers(batches: Batches) -> list[list[int]]:
    return [[round(float(image[0, 0, 0])) for image in images] for images, _ in batches]


@pytest.mark.parametrize(
    ("count", "ranks", "parts"),
    [
        (6, 2, [(0, 3), (3, 6)]),
        (7, 2, [(0, 4), (4, 7)]),
        (8, 3, [(0, 3), (3, 6), (6, 8)]),
        (1, 2, [(0, 1), (1, 1)]),
        (5, 1, [(0, 5)]),
    ],
)
def test_the_parts_are_the_whole_batch_in_order(count: int, ranks: int, parts: list[tuple[int, int]]) -> None:
    assert [Share(rank, ranks).of(count) for rank in range(ranks)] == parts


def test_the_mean_over_processes_of_weighted_means_is_the_mean_of_the_batch() -> None:
    losses = [1.0, 2.0, 3.0, 4.0, 10.0]
    shares = [Share(rank, 3) for rank in range(3)]  # of 2, 2 and 1 images
    means = [np.mean(losses[slice(*share.of(5))]) for share in shares]
    assert [share.weight(5) for share in shares] == pytest.approx([6 / 5, 6 / 5, 3 / 5])
    assert np.mean([mean * share.weight(5) for mean, share in zip(means, shares, strict=True)]) == pytest.approx(4.0)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_processes_share_each_training_batch_without_overlap_or_loss(ranks: int, make_batches: MakeBatches) -> None:
    whole = make_batches(shuffle_seed=5)
    expected = numbers(whole)
    parts = [make_batches(shuffle_seed=5, share=Share(rank, ranks)) for rank in range(ranks)]
    found = [numbers(part) for part in parts]
    for batch, images in enumerate(expected):
        own = [part for part, batches in zip(found, parts, strict=True) if batches.weight(batch) > 0]
        assert [image for part in own for image in part[batch]] == images
    assert {len(part) for part in parts} == {len(whole)}
    assert {part.order_sha256 for part in parts} == {whole.order_sha256}


def test_a_process_without_a_part_of_the_last_batch_gets_an_image_that_does_not_count(
    make_batches: MakeBatches,
) -> None:
    parts = [make_batches(shuffle_seed=5, share=Share(rank, 3)) for rank in range(3)]
    assert [part.weight(2) for part in parts] == [1.5, 1.5, 0.0]
    assert [len(numbers(part)[2]) for part in parts] == [1, 1, 1]


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_an_image_is_augmented_as_if_there_were_one_process(noise: float, make_batches: MakeBatches) -> None:
    options = {"shuffle_seed": 5, "augmentation": AugmentationConfig(shift=1, horizontal_flip=True, noise=noise)}

    def epoch(share: Share) -> list[Tensor]:
        return [images.clone() for images, _ in make_batches(**options, share=share)]

    whole, first, second = epoch(Share()), epoch(Share(0, 2)), epoch(Share(1, 2))
    for batch, halves in zip(whole, zip(first, second, strict=True), strict=True):
        assert torch.equal(torch.cat(halves), batch)


@pytest.mark.parametrize("ranks", [2, 3])
def test_of_batches_in_order_each_process_gets_whole_ones(ranks: int, make_batches: MakeBatches) -> None:
    expected = [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19]]
    for rank in range(ranks):
        part = make_batches(share=Share(rank, ranks))
        assert numbers(part) == expected[rank::ranks]
        assert len(part) == len(expected[rank::ranks])


def test_a_last_batch_of_which_a_process_would_get_one_image_is_dropped_where_batch_norm_needs_more(
    make_batches: MakeBatches,
) -> None:
    for rank in range(2):
        part = make_batches(shuffle_seed=0, drops_single=True, share=Share(rank, 2))
        assert [len(batch) for batch in numbers(part)] == [2, 2]
        assert len(part) == 2


def test_each_process_has_a_batch_of_a_small_val_split(numbered: ImageDataset) -> None:
    config = DataConfig(val_fraction=0.1, test_fraction=0.2)  # 8 val images
    images = {rank: ImageDataModule(config, dataset=numbered) for rank in (None, 0, 1, 2)}
    for rank, data in images.items():
        data.setup()
        data.share = Share() if rank is None else Share(rank, 3)
    counts = {rank: [len(labels) for _, labels in data.val_dataloader()] for rank, data in images.items()}
    assert counts == {None: [8], 0: [2, 2], 1: [2], 2: [2]}


def test_more_processes_than_val_images_are_refused(numbered: ImageDataset) -> None:
    data = ImageDataModule(DataConfig(val_fraction=0.1, test_fraction=0.2), dataset=numbered)
    data.setup()
    data.share = Share(0, 9)
    with pytest.raises(InputError, match="only 8 images are val, and 9 processes share them"):
        data.val_dataloader()
