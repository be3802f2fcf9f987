"""Hash, lowest and highest value of each image of an array, computed in one pass over its bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.images.on_disk import ImagesOnDisk

_CHUNK_BYTES = 2**22  # read at a time: this fits in a CPU's cache


@dataclass(frozen=True)
class Content:
    """`hashes` of N images (equal if the images are), lowest and highest values (NaN or infinite if one occurs)."""

    hashes: NDArray[np.uint64]
    low: NDArray[Any]
    high: NDArray[Any]
    is_whole: bool  # whether all values of all images are whole numbers


def content_of(images: NDArray[Any] | ImagesOnDisk) -> Content:
    """Reads `images` (N, ...) once, in chunks, because they may be larger than memory.

    The hash is the sum of 64-bit words times random odd numbers, modulo 2^64: one multiplication per word. Different
    images can have the same hash (two that differ in the highest bits of two words do), so verify equality.
    """
    values_an_image = int(np.prod(images.shape[1:]))
    itemsize = images.dtype.itemsize
    words_an_image = -(-values_an_image * itemsize // 8)
    factors = np.random.default_rng(0).integers(0, 2**64, words_an_image, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(images), np.uint64)
    low, high = np.empty(len(images), images.dtype), np.empty(len(images), images.dtype)
    is_whole = True
    for rows in chunks(images):
        values = images[rows].reshape(-1, values_an_image)
        padded = np.zeros((len(values), 8 * words_an_image), np.uint8)
        padded[:, : values_an_image * itemsize] = np.ascontiguousarray(values).view(np.uint8)
        hashes[rows] = padded.view(np.uint64) @ factors
        low[rows], high[rows] = values.min(axis=1), values.max(axis=1)
        is_whole = is_whole and (images.dtype.kind != "f" or bool((values == np.rint(values)).all()))
    return Content(hashes, low, high, is_whole)


def chunks(array: NDArray[Any] | ImagesOnDisk) -> Iterator[slice]:
    """Yields slices that together cover all rows of an array (N, ...), each of a few MB."""
    size = max(1, _CHUNK_BYTES // (array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), size):
        yield slice(start, start + size)
