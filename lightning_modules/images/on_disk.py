"""Images of a .npy file that are read only when needed. The file may be larger than memory."""

import os
import weakref
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.errors import InputError
from lightning_modules.images.layout import as_pixels, channels_last, pixel_type

_BLOCK_BYTES = 2**20  # of neighbouring images in the file: enough for a disk to read at its full rate
_BLOCKS_REMEMBERED = 256  # that were prefetched


class ImagesOnDisk:
    """Replaces an array (N, H, W, C), uint8 or float32. Indexing reads the rows from the file and returns an array.

    `preadv` reads the rows into new memory. A memory map would be worse: its touched pages count as memory of the
    process until they are dropped, each costs a page fault, and the process is killed if the file becomes shorter. When
    single rows are read, the system is asked to prefetch their block of the file, so that the block's other rows are in
    its cache when they are needed. The system empties that cache when a process needs the memory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)  # only to read its header
        self._start, self._row_shape, self._type = mapped.offset, mapped.shape[1:], mapped.dtype
        self._row_bytes = mapped.dtype.itemsize * int(np.prod(self._row_shape))
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.shape: tuple[int, ...] = channels_last(mapped).shape
        self.dtype = pixel_type(mapped.dtype)
        self.nbytes = 0  # in memory
        self.block = max(1, _BLOCK_BYTES // self._row_bytes)  # images per block
        prefetch = partial(_prefetch, self._file, self._start, self.block * self._row_bytes)
        self._prefetch_once = lru_cache(_BLOCKS_REMEMBERED)(prefetch)

    def __reduce__(self) -> tuple[type["ImagesOnDisk"], tuple[Path]]:
        """Pickles only the path: another process opens the file itself."""
        return ImagesOnDisk, (self.path,)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | np.integer[Any] | slice | NDArray[np.int64]) -> NDArray[Any]:
        """Returns these rows. Raises InputError if a value is too large for float32 or the file became shorter."""
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
        """Fills `into` with consecutive rows, starting at `row`."""
        if len(into) < self.block * self._row_bytes:
            self._prefetch_once(row // self.block)
        place = self._start + row * self._row_bytes
        while into:
            count = os.preadv(self._file, [into], place)
            if not count:
                message = "has become shorter since it was opened"
                raise InputError("data.path", str(self.path), message, "do not change it while it is in use")
            into, place = into[count:], place + count


def _prefetch(file: int, start: int, size: int, block: int) -> None:
    """Asks the system to read a block of `size` bytes into its cache, without waiting for it."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, start + block * size, size, os.POSIX_FADV_WILLNEED)
