"""Rows that arrive batch by batch, kept in one tensor."""

import torch
from torch import Tensor


class RowBuffer:
    """Holds rows (n, K) in a tensor that doubles as it fills.

    A list of small tensors, each allocated among the large ones of a batch, breaks up the heap: glibc's then grows by
    some 10 MB a batch of 128 images of 64×64.
    """

    def __init__(self) -> None:
        self._rows = torch.empty(0)
        self._count = 0

    def add(self, rows: Tensor) -> None:
        """Copies the rows behind those that there are; all are of one type, on one device."""
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
