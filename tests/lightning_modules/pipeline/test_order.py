"""The order of images on disk: every image once, whole blocks at a time, really mixed."""

from collections.abc import Sequence

import torch

from lightning_modules.pipeline.order import BlockOrder

TWELVE_BLOCKS = range(120)  # of 10 images each


def shuffled(indices: Sequence[int], seed: int = 0, *, window: int = 3) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = BlockOrder(block=10, window=window).shuffle(torch.tensor(indices), generator).tolist()
    return order


def test_every_image_comes_as_often_as_it_was_given() -> None:
    assert sorted(shuffled(TWELVE_BLOCKS)) == list(TWELVE_BLOCKS)
    assert sorted(shuffled([57, 3, 3, 119, 60])) == [3, 3, 57, 60, 119]


def test_the_seed_decides() -> None:
    assert shuffled(TWELVE_BLOCKS, seed=5) == shuffled(TWELVE_BLOCKS, seed=5) != shuffled(TWELVE_BLOCKS, seed=6)


def test_a_window_is_some_whole_blocks_so_a_batch_reads_few() -> None:
    order = shuffled(TWELVE_BLOCKS)
    for start in range(0, 120, 30):
        assert len({image // 10 for image in order[start : start + 30]}) == 3
    batches = [order[start : start + 7] for start in range(0, 120, 7)]
    assert max(len({image // 10 for image in batch}) for batch in batches) <= 6  # where it spans two windows


def test_within_a_window_images_are_mixed() -> None:
    """A tenth of a window, of 100 images, holds about a tenth of each of its 10 blocks."""
    counts = torch.zeros(10)
    for seed in range(100):
        for image in shuffled(range(100), seed, window=10)[:10]:
            counts[image // 10] += 1
    assert counts.sum() == 1000
    assert 65 < counts.min() <= counts.max() < 135  # 100 expected, deviation 9


def test_any_block_may_come_first() -> None:
    firsts = torch.zeros(12)
    for seed in range(200):
        firsts[list({image // 10 for image in shuffled(TWELVE_BLOCKS, seed)[:30]})] += 1
    assert firsts.sum() == 600
    assert 25 < firsts.min() <= firsts.max() < 75  # 50 expected, deviation 6


def test_no_window_is_left_with_a_block_or_two() -> None:
    """13 blocks in windows of at most 12 are 7 and 6."""
    order = shuffled(range(130), window=12)
    assert len({image // 10 for image in order[:70]}) == 7
    assert len({image // 10 for image in order[70:]}) == 6
