"""Hands over batches in chunks, so that Lightning's loop runs once for several batches."""

from collections.abc import Iterator, Sized
from itertools import islice
from typing import Any, Protocol

from lightning_modules.stepping.stretch import Stretch

Chunk = Iterator[Any]  # up to N batches, or stretches with up to N batches, made when they are asked for


class Loader(Sized, Protocol):
    """A data loader that knows its epoch."""

    sampler: Any

    def __iter__(self) -> Iterator[Any]: ...

    def stretches(self) -> Iterator[Stretch]: ...


class Chunks:
    """Iterates over chunks of `size` batches of a loader; the last may be shorter. Batches are made one at a time.

    `in_stretches`: a chunk does not have the batches one by one, but as stretches.
    """

    batch_sampler = None  # Lightning reads it if there is a sampler

    def __init__(self, batches: Loader, size: int, *, in_stretches: bool = False) -> None:
        self.batches, self.size, self.in_stretches = batches, size, in_stretches
        self.sampler = batches.sampler

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[Chunk]:
        if self.in_stretches:
            stretches = _Stretches(self.batches.stretches())
            for _ in range(len(self)):
                yield stretches.take(self.size)
            stretches.end()
            return
        batches = iter(self.batches)
        for _ in range(len(self)):
            yield islice(batches, self.size)
        next(batches, None)  # the loader ends its epoch


class _Stretches:
    """Divides stretches where a chunk ends."""

    def __init__(self, stretches: Iterator[Stretch]) -> None:
        self._stretches = stretches
        self._rest: Stretch | None = None

    def take(self, batches: int) -> Iterator[Stretch]:
        """Yields the next stretches, with so many batches together; fewer at the end of the epoch."""
        while batches > 0:
            stretch = self._rest or next(self._stretches, None)
            if stretch is None:
                return
            taken, self._rest = stretch.divided(batches)
            batches -= len(taken)
            yield taken

    def end(self) -> None:
        """Lets the loader end its epoch."""
        next(self._stretches, None)
