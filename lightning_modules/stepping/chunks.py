"""Hands over batches in chunks, so that Lightning's loop runs once for several batches."""

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any, Protocol

Chunk = Iterator[Any]  # up to N batches, made when they are asked for


class Loader(Sized, Protocol):
    """A data loader that knows its epoch."""

    sampler: Any

    def __iter__(self) -> Iterator[Any]: ...


class Chunks:
    """Iterates over chunks of `size` batches of a loader; the last may be shorter. Batches are made one at a time."""

    batch_sampler = None  # Lightning reads it if there is a sampler

    def __init__(self, batches: Loader, size: int) -> None:
        self.batches, self.size = batches, size
        self.sampler = batches.sampler

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[Chunk]:
        batches = iter(self.batches)
        for _ in range(len(self)):
            yield islice(batches, self.size)
        next(batches, None)  # the loader ends its epoch
