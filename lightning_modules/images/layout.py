"""From the layouts and types in which images are saved to the one that is used: (N, H, W, C), uint8 or float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3, 4)


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """A view (N, H, W, C) of images (N, H, W), (N, H, W, C) or (N, C, H, W); of any other shape it is as it was."""
    if images.ndim == 3:
        return images[..., np.newaxis]
    if images.ndim == 4 and images.shape[3] not in CHANNELS and images.shape[1] in CHANNELS:
        return images.transpose(0, 2, 3, 1)
    return images


def pixel_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What pixels of that type become: bytes stay, bool becomes 0 and 1, every other number float32."""
    return np.dtype(np.uint8 if dtype in (np.uint8, np.bool_) else np.float32)


def as_pixels(images: NDArray[Any]) -> NDArray[Any]:
    """The images in their `pixel_type`, in memory and writable; OverflowError where a finite value becomes infinite."""
    if images.dtype == np.uint8 and images.flags.writeable:
        return images
    with np.errstate(over="ignore"):
        pixels = images.astype(pixel_type(images.dtype), subok=False)
    if images.dtype.itemsize > pixels.itemsize and (np.isinf(pixels) & np.isfinite(images)).any():
        raise OverflowError("holds more than float32 can")
    return pixels
