"""Accumulates per-image outputs of an epoch in one preallocated tensor."""

import torch
from torch import Tensor


class RowBuffer:
    """Stores rows (n, K) in a tensor that doubles its size when it is full.

    A list of small tensors, each allocated between the large tensors of a batch, fragments the heap: glibc's heap grows
    by about 10 MB per batch of 128 images of 64×64.
    """

    def __init__(self) -> None:
        self._rows = torch.empty(0)
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """Appends a copy of the rows. All rows must have the same dtype and device."""
        end = self._count + len(rows)
        if end > len(self._rows):
            larger = rows.new_empty(2 * end, *rows.shape[1:])
            if self._count:
                larger[: self._count] = self.rows
            self._rows = larger
        self._rows[self._count : end] = rows
        self._count = end

    @property
    def rows(self) -> Tensor:
        return self._rows[: self._count]
