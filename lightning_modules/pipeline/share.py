"""Which images of a batch a process trains on, if several train one model together.

A batch is always the batch of all processes. So the number of processes changes neither the steps of an epoch, nor the
images of a step, nor their order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The part of the process `rank` (from 0) of `ranks`."""

    rank: int = 0
    ranks: int = 1

    def of(self, count: int) -> tuple[int, int]:
        """Returns the first of this process's images in a batch of `count`, and the one after its last.

        The parts of all processes are the whole batch, in order. No two differ by more than one image.
        """
        size, larger = divmod(count, self.ranks)
        first = self.rank * size + min(self.rank, larger)
        return first, first + size + (self.rank < larger)

    def weight(self, count: int) -> float:
        """Returns by what the mean loss of this part is multiplied: the mean over processes is that of the batch."""
        first, end = self.of(count)
        return (end - first) * self.ranks / count
