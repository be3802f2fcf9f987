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
        return len(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        """How many batches each chunk has."""
        batches = len(self.batches)
        return [min(self.size, batches - first) for first in range(0, batches, self.size)]

    def __iter__(self) -> Iterator[Chunk]:
        if self.in_stretches:
            stretches = _Stretches(self.batches.stretches())
            for size in self._sizes:
                yield stretches.take(size)
            stretches.end()
            return
        batches = iter(self.batches)
        for size in self._sizes:
            yield islice(batches, size)
        next(batches, None)  # the loader ends its epoch


class _Stretches:
    """Divides stretches where a chunk ends."""

    def __init__(self, stretches: Iterator[Stretch]) -> None:
        self._stretches = stretches
        self._rest: Stretch | None = None

    def take(self, batches: int) -> Iterator[Stretch]:
        """Yields the next stretches, with so many batches together."""
        while batches > 0:
            taken, self._rest = (self._rest or next(self._stretches)).divided(batches)
            batches -= len(taken)
            yield taken

    def end(self) -> None:
        """Lets the loader end its epoch."""
        next(self._stretches, None)
