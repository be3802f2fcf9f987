"""Images of a .npy that stay in their file, which may be larger than memory."""

import os
import weakref
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.errors import InputError
from lightning_modules.images.layout import as_pixels, channels_last, pixel_type

_BLOCK_BYTES = 2**20  # of images that lie side by side in the file: enough for a disk to read at its full rate
_BLOCKS_REMEMBERED = 256  # of those asked for already


class ImagesOnDisk:
    """Stands for an array (N, H, W, C), uint8 or float32: indexed by rows, it reads these and gives them as an array.

    Rows are read by `preadv` into memory of their own. Touched pages of a memory map would count as memory of the
    process until it drops them, cost a fault each, and end it where the file has become shorter. Where single rows are
    read, the system is asked for the block of the file that they lie in, so that its other rows are there when they are
    wanted; its cache gives way to whoever needs memory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)  # for what its header tells
        self._start, self._row_shape, self._type = mapped.offset, mapped.shape[1:], mapped.dtype
        self._row_bytes = mapped.dtype.itemsize * int(np.prod(self._row_shape))
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.shape: tuple[int, ...] = channels_last(mapped).shape
        self.dtype = pixel_type(mapped.dtype)
        self.nbytes = 0  # of memory
        self.block = max(1, _BLOCK_BYTES // self._row_bytes)  # images a block
        ask_for = partial(_ask_for, self._file, self._start, self.block * self._row_bytes)
        self._ask_for_once = lru_cache(_BLOCKS_REMEMBERED)(ask_for)

    def __reduce__(self) -> tuple[type["ImagesOnDisk"], tuple[Path]]:
        """Another process opens the file itself."""
        return ImagesOnDisk, (self.path,)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | np.integer[Any] | slice | NDArray[np.int64]) -> NDArray[Any]:
        """Raises InputError where float32 cannot hold a value, or the file is no longer what it was."""
        if isinstance(rows, int | np.integer):
            image: NDArray[Any] = self[np.array([range(len(self))[rows]])][0]
            return image
        places = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        read = np.empty((len(places), *self._row_shape), self._type)
        unread = read.reshape(-1).view(np.uint8).data
        firsts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        for row, count in zip(places[firsts].tolist(), np.diff(firsts, append=len(places)).tolist(), strict=True):
            self._read(row, unread[: count * self._row_bytes])
            unread = unread[count * self._row_bytes :]
        try:
            return as_pixels(channels_last(read))
        except OverflowError as error:
            raise InputError("data.path", str(self.path), str(error), "scale it down before saving") from error

    def _read(self, row: int, into: memoryview) -> None:
        """Fills `into` with rows that lie side by side, the first of them `row`."""
        if len(into) < self.block * self._row_bytes:
            self._ask_for_once(row // self.block)
        place = self._start + row * self._row_bytes
        while into:
            count = os.preadv(self._file, [into], place)
            if not count:
                message = "has become shorter since it was opened"
                raise InputError("data.path", str(self.path), message, "leave it as it is while it is in use")
            into, place = into[count:], place + count


def _ask_for(file: int, start: int, size: int, block: int) -> None:
    """Has the system read a block, of `size` bytes, into its cache, without waiting for it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, start + block * size, size, os.POSIX_FADV_WILLNEED)
