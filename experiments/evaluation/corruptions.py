"""Corruptions of images at five strengths: shift, rotation, scale, noise, blur, contrast and occlusion.

After Hendrycks and Dietterich (2019), Benchmarking neural network robustness to common corruptions and perturbations,
ICLR; shift, rotation and scale as in MNIST-C: Mu and Gilmer (2019). Shapes: N images, H × W pixels, C channels.

Inside, values go from 0 (the darkest of the data) to 1 (the brightest), as float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from experiments.pages.pictures import DARK

STRENGTHS = (1, 2, 3, 4, 5)
VERSION = 1  # of what the functions below do: answers under other versions cannot be compared
_SIDE = 28  # pixels of the images for which lengths are stated; for others they grow with the shorter side
_GRAY = 0.5

Pixels = NDArray[np.float32]  # (N, H, W, C)
Draw = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One corruption. `apply(images, amount, draw)` returns new images, which may leave the range from 0 to 1."""

    name: str
    summary: str
    unit: str
    amounts: tuple[float, ...]  # by strength
    is_length: bool = False  # whether amounts are pixels of an image of 28 × 28
    apply: Callable[[Pixels, float, Draw], Pixels]

    def amount(self, strength: int, height: int, width: int) -> float:
        """Returns the amount for images of this size."""
        return self.amounts[strength - 1] * (min(height, width) / _SIDE if self.is_length else 1)


def corrupt(
    images_NHWC: NDArray[Any], name: str, strength: int, *, seed: int, values: tuple[float, float]
) -> NDArray[Any]:
    """Returns corrupted images, uint8 or float, of the same shape and type.

    `strength`: 1 to 5. `seed` decides what is random, such as the direction of a shift: it is the same at every
    strength. `values`: the darkest and the brightest value that the data may have (`value_range`).
    """
    corruption, (low, high) = CORRUPTIONS[name], values
    draw = np.random.default_rng([seed, *name.encode()])
    pixels = (images_NHWC.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    changed = corruption.apply(pixels, corruption.amount(strength, *images_NHWC.shape[1:3]), draw)
    restored = np.clip(changed, 0, 1) * np.float32(high - low) + np.float32(low)
    return (restored if images_NHWC.dtype.kind == "f" else restored.round()).astype(images_NHWC.dtype)


def value_range(darkest: float, brightest: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Returns the values that data may have, from those that they have: bytes from 0 to 255, unless all are dark."""
    if dtype == np.uint8 and brightest >= DARK:
        return 0, 255
    return (darkest, brightest) if brightest > darkest else (darkest, darkest + 1)


# The corruptions.


def _shift(images: Pixels, pixels: float, draw: Draw) -> Pixels:
    """Moves each image up, down, left or right."""
    moves_N2 = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], np.float32)[draw.integers(4, size=len(images))]
    return _moved(images, np.broadcast_to(np.eye(2, dtype=np.float32), (len(images), 2, 2)), -pixels * moves_N2)


def _rotate(images: Pixels, degrees: float, draw: Draw) -> Pixels:
    """Turns each image about its centre, one way or the other."""
    angles_N = np.deg2rad(degrees) * draw.choice([-1, 1], size=len(images))
    cos_N, sin_N = np.cos(angles_N), np.sin(angles_N)
    return _moved(images, np.stack([cos_N, sin_N, -sin_N, cos_N], axis=1).reshape(-1, 2, 2))


def _scale(images: Pixels, factor: float, draw: Draw) -> Pixels:
    """Makes each image larger or smaller by this factor, about its centre."""
    factors_N = np.where(draw.random(len(images)) < 0.5, factor, 1 / factor)
    return _moved(images, np.eye(2) / factors_N[:, None, None])


def _noise(images: Pixels, deviation: float, draw: Draw) -> Pixels:
    """Adds Gaussian noise to each value."""
    return images + np.float32(deviation) * draw.standard_normal(images.shape, np.float32)


def _blur(images: Pixels, deviation: float, _: Draw) -> Pixels:
    """Averages with Gaussian weights; beyond the border, its pixels are repeated."""
    for axis in (1, 2):
        images = np.asarray(gaussian_filter1d(images, deviation, axis=axis, mode="nearest"))
    return images


def _contrast(images: Pixels, factor: float, _: Draw) -> Pixels:
    """Moves each value towards the mean of its image and channel."""
    means = images.mean(axis=(1, 2), keepdims=True)
    nearer: Pixels = (images - means) * np.float32(factor) + means
    return nearer


def _occlude(images: Pixels, side: float, draw: Draw) -> Pixels:
    """Covers a square, wholly inside the image, with gray."""
    count, height, width, _ = images.shape
    size = min(max(round(side), 1), height, width)
    within = []
    for length in (height, width):
        start_N1 = draw.integers(length - size + 1, size=(count, 1))
        places = np.arange(length)
        within.append((start_N1 <= places) & (places < start_N1 + size))
    is_covered = within[0][:, :, None, None] & within[1][:, None, :, None]
    return np.where(is_covered, np.float32(_GRAY), images)


def _moved(images: Pixels, matrices_N22: NDArray[Any], offsets_N2: NDArray[Any] | float = 0.0) -> Pixels:
    """Returns images whose pixel at p, as (x, y) from the centre, comes from `matrix @ p + offset` of the old one.

    Between pixels, values are interpolated bilinearly; what comes from outside is as dark as the data may be.
    """
    _, height, width, _ = images.shape
    half_2 = np.array([width, height]) / 2
    theta_N23 = np.zeros((len(images), 2, 3), np.float32)  # in units of half a side, as torch wants it
    theta_N23[:, :, :2] = matrices_N22 * half_2 / half_2[:, None]
    theta_N23[:, :, 2] = offsets_N2 / half_2
    with torch.inference_mode():
        images_NCHW = torch.from_numpy(images).permute(0, 3, 1, 2)
        grid_NHW2 = F.affine_grid(torch.from_numpy(theta_N23), list(images_NCHW.shape), align_corners=False)
        moved_NCHW = F.grid_sample(images_NCHW, grid_NHW2, align_corners=False)
        return np.ascontiguousarray(moved_NCHW.permute(0, 2, 3, 1).numpy())


CORRUPTIONS: dict[str, Corruption] = {
    each.name: each
    for each in (
        Corruption(
            name="shift",
            summary="moved up, down, left or right",
            unit="px",
            amounts=(1, 2, 3, 4, 5),
            is_length=True,
            apply=_shift,
        ),
        Corruption(
            name="rotation",
            summary="turned one way or the other",
            unit="degrees",
            amounts=(6, 12, 18, 24, 30),
            apply=_rotate,
        ),
        Corruption(
            name="scale",
            summary="made larger or smaller by a factor",
            unit="",
            amounts=(1.1, 1.2, 1.3, 1.4, 1.5),
            apply=_scale,
        ),
        Corruption(
            name="noise",
            summary="Gaussian noise, its standard deviation as a share of the range of values",
            unit="",
            amounts=(0.04, 0.08, 0.12, 0.18, 0.26),
            apply=_noise,
        ),
        Corruption(
            name="blur",
            summary="Gaussian blur, its standard deviation",
            unit="px",
            amounts=(0.5, 0.75, 1, 1.5, 2),
            is_length=True,
            apply=_blur,
        ),
        Corruption(
            name="contrast",
            summary="the contrast that is left",
            unit="",
            amounts=(0.75, 0.5, 0.4, 0.3, 0.15),
            apply=_contrast,
        ),
        Corruption(
            name="occlusion",
            summary="a gray square, its side",
            unit="px",
            amounts=(4, 6, 8, 10, 12),
            is_length=True,
            apply=_occlude,
        ),
    )
}
