"""Chunks of a loader's batches."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from lightning_modules.stepping.chunks import Chunks
from lightning_modules.stepping.stretch import Stretch


class Five:
    """A loader of five batches of two images, which is asked for more than them when its epoch has ended."""

    sampler = None

    def __init__(self) -> None:
        self.has_ended = False

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[int]:
        yield from range(5)
        self.has_ended = True

    def stretches(self) -> Iterator[Stretch]:
        for batches in (2, 3):
            images_NHWC = torch.zeros(2 * batches, 1, 1, 1)
            yield Stretch(images_NHWC, torch.zeros(2 * batches), 2, ready=lambda images: images, most=3)
        self.has_ended = True


@pytest.mark.parametrize("in_stretches", [False, True])
@pytest.mark.parametrize(("size", "sizes"), [(2, [2, 2, 1]), (5, [5]), (64, [5])])
def test_no_chunk_reads_beyond_the_last_batch(size: int, sizes: list[int], in_stretches: bool) -> None:
    """Lightning does not either: what comes after it may draw random numbers, for an image that is left out."""
    loader = Five()
    chunks = Chunks(loader, size, in_stretches=in_stretches)
    read = iter(chunks)
    taken = [[each for part in chunk for each in _batches(part)] for chunk in islice(read, len(chunks))]
    assert [len(batches) for batches in taken] == sizes
    assert not loader.has_ended
    assert next(read, None) is None
    assert loader.has_ended


def _batches(part: int | Stretch) -> list[object]:
    return list(part.batches()) if isinstance(part, Stretch) else [part]
