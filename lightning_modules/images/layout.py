"""Converts images of other layouts and types to the one that the code uses: (N, H, W, C), uint8 or float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3, 4)


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """Returns a view (N, H, W, C) of images (N, H, W), (N, H, W, C) or (N, C, H, W). Other shapes stay as they are."""
    if images.ndim == 3:
        return images[..., np.newaxis]
    if images.ndim == 4 and images.shape[3] not in CHANNELS and images.shape[1] in CHANNELS:
        return images.transpose(0, 2, 3, 1)
    return images


def pixel_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the type that pixels are converted to: bytes stay, bool becomes 0 and 1, other numbers become float32."""
    return np.dtype(np.uint8 if dtype in (np.uint8, np.bool_) else np.float32)


def as_pixels(images: NDArray[Any]) -> NDArray[Any]:
    """Returns images in memory, writable, in their `pixel_type`. Raises OverflowError if a value becomes infinite."""
    if images.dtype == np.uint8 and images.flags.writeable:
        return images
    with np.errstate(over="ignore"):
        pixels = images.astype(pixel_type(images.dtype), subok=False)
    if images.dtype.itemsize > pixels.itemsize and (np.isinf(pixels) & np.isfinite(images)).any():
        raise OverflowError("has a value too large for float32")
    return pixels


class ImagesError(ValueError):
    """Says in one line why images cannot be used."""


def in_type(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Returns numbers in the type of other pixels, unchanged. Raises ImagesError if the type does not have a value."""
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    is_in_range = (values >= limits.min) & (values <= limits.max)  # false for NaN
    if not is_in_range.all():
        wrong = values[~is_in_range][0]
        raise ImagesError(f"has the value {wrong}; pixels are from {limits.min} to {limits.max}")
    typed = values.astype(kind)
    if kind.kind in "iu" and (typed != values).any():
        raise ImagesError(f"has the value {values[typed != values][0]}; pixels are whole numbers")
    return typed
