"""Per-sample random augmentation on whole batches, for train alone."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lightning_modules.errors import InputError, check_choice

# Shapes: N images, H x W pixels, C channels.
Padding = Literal["black", "mirror"]

# Of an erased rectangle: its share of the image, and its height over its width in shares of the image's own. Zhong,
# Zheng, Kang, Li and Yang, Random Erasing Data Augmentation, AAAI 2020; the largest share is torchvision's.
_LEAST_ERASED, _MOST_ERASED, _MOST_ELONGATED = 0.02, 0.33, 3.3


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """What may happen to a training image each time it is shown; each image draws for itself.

    It happens to raw pixels, before they are normalized, so that a value moves before the statistics of its new place
    apply to it; and in this order: rotated about the centre, shifted, mirrored, erased, noise over all of it.
    """

    shift: int = 0  # moved by up to this many pixels each way, both axes: a random crop of the padded image
    horizontal_flip: bool = False  # mirrored with probability one half
    rotation: float = 0.0  # degrees: turned by up to this many either way, bilinear between pixels
    padding: Padding = "black"  # what a shift or rotation brings into view: raw 0, or the image mirrored at its border
    erasing: float = 0.0  # probability that a rectangle becomes raw 0
    noise: float = 0.0  # standard deviation of Gaussian noise, in raw units: of the 255 of 8-bit images; not clipped

    def __post_init__(self) -> None:
        path = "data.augmentation"
        if self.shift < 0:
            raise InputError(f"{path}.shift", self.shift, "must be 0 or more pixels", "try 2")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"{path}.rotation", self.rotation, "must be 0 to 180 degrees", "try 10")
        check_choice(f"{path}.padding", self.padding, Padding)
        if not 0 <= self.erasing <= 1:
            raise InputError(f"{path}.erasing", self.erasing, "must be a probability, 0 to 1", "try 0.5")
        if not 0 <= self.noise < math.inf:
            raise InputError(f"{path}.noise", self.noise, "must be 0 or more, in units of raw pixel values", "try 10")

    def __bool__(self) -> bool:
        """Whether anything happens at all."""
        return self.horizontal_flip or max(self.shift, self.rotation, self.erasing, self.noise) > 0

    def apply(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """New images by draws of `generator` (on the CPU); device and shape stay.

        The dtype stays too, but for rotation and noise, which give float32.
        """
        if self.rotation:
            degrees_N = (2 * torch.rand(len(images_NHWC), generator=generator) - 1) * self.rotation
            images_NHWC = rotate(images_NHWC, degrees_N, self.padding)
        if self.shift or self.horizontal_flip:
            images_NHWC = self._move(images_NHWC, generator)
        if self.erasing:
            images_NHWC = self._erase(images_NHWC, generator)
        if self.noise:
            images_NHWC = torch.add(images_NHWC, _normal_like(images_NHWC, generator), alpha=self.noise)
        return images_NHWC

    def _move(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """Shifts and mirrors, by one gather."""
        count, height, width, _ = images_NHWC.shape
        device = images_NHWC.device
        rows_NH = torch.arange(height, device=device).expand(count, height)
        columns_NW = torch.arange(width, device=device).expand(count, width)
        if self.horizontal_flip:
            flipped_N1 = (torch.rand(count, 1, generator=generator) < 0.5).to(device, non_blocking=True)
            columns_NW = torch.where(flipped_N1, columns_NW.flip(1), columns_NW)
        if self.shift:
            moves_2N1 = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator)
            moves_2N1 = moves_2N1.to(device, non_blocking=True)
            rows_NH, columns_NW = rows_NH + moves_2N1[0], columns_NW + moves_2N1[1]
            if self.padding == "mirror":
                rows_NH = _mirror(rows_NH - self.shift, height)
                columns_NW = _mirror(columns_NW - self.shift, width)
            else:
                images_NHWC = F.pad(images_NHWC, (0, 0, self.shift, self.shift, self.shift, self.shift))
        samples_N11 = torch.arange(count, device=device)[:, None, None]
        return images_NHWC[samples_N11, rows_NH[:, :, None], columns_NW[:, None, :]]

    def _erase(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """Blackens a rectangle in some of the images: as in the paper, area and proportion are drawn first."""
        count, height, width, _ = images_NHWC.shape
        chance_N, area_N, proportion_N, top_N, left_N = torch.rand(5, count, generator=generator)
        area_N = _LEAST_ERASED + (_MOST_ERASED - _LEAST_ERASED) * area_N
        proportion_N = _MOST_ELONGATED ** (2 * proportion_N - 1)
        rows_N, columns_N = (
            ((side * share_N.sqrt()).round().clamp(1, side)) * (chance_N < self.erasing)
            for side, share_N in ((height, area_N * proportion_N), (width, area_N / proportion_N))
        )
        top_N, left_N = (top_N * (height - rows_N + 1)).floor(), (left_N * (width - columns_N + 1)).floor()
        bounds_4N1 = torch.stack([top_N, top_N + rows_N, left_N, left_N + columns_N])[:, :, None]
        top_N1, bottom_N1, left_N1, right_N1 = bounds_4N1.to(images_NHWC.device, non_blocking=True)
        rows_H = torch.arange(height, device=images_NHWC.device)
        columns_W = torch.arange(width, device=images_NHWC.device)
        within_NH = (top_N1 <= rows_H) & (rows_H < bottom_N1)
        within_NW = (left_N1 <= columns_W) & (columns_W < right_N1)
        return images_NHWC.masked_fill((within_NH[:, :, None] & within_NW[:, None, :])[..., None], 0)


def rotate(images_NHWC: Tensor, degrees_N: Tensor, padding: Padding = "black") -> Tensor:
    """Each image turned counter-clockwise about its centre, as float32; bilinear between pixels, proportions kept."""
    _, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    angles_N11 = torch.deg2rad(degrees_N.double())[:, None, None]
    cos_N11, sin_N11 = (turned.float().to(device, non_blocking=True) for turned in (angles_N11.cos(), angles_N11.sin()))
    # Where each pixel of the result comes from, in units in which the image reaches from -1 to 1 on both axes.
    y_H1 = ((2 * torch.arange(height, device=device) + 1) / height - 1)[:, None]
    x_W = (2 * torch.arange(width, device=device) + 1) / width - 1
    from_x_NHW = cos_N11 * x_W - sin_N11 * (height / width) * y_H1
    from_y_NHW = sin_N11 * (width / height) * x_W + cos_N11 * y_H1
    turned_NCHW = F.grid_sample(
        images_NHWC.permute(0, 3, 1, 2).float(),
        torch.stack([from_x_NHW, from_y_NHW], dim=3),
        padding_mode={"black": "zeros", "mirror": "reflection"}[padding],
        align_corners=False,
    )
    return turned_NCHW.permute(0, 2, 3, 1)


def _mirror(indices: Tensor, size: int) -> Tensor:
    """Indices beyond 0 … size-1 led back as by mirrors at both borders, which show the border's pixel again."""
    within = indices % (2 * size)
    return torch.minimum(within, 2 * size - 1 - within)


def _normal_like(images: Tensor, generator: Generator) -> Tensor:
    """Standard normal float32 of the images' shape, drawn on their device: too much to be sent there every step."""
    own = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return torch.randn(images.shape, generator=own, device=images.device)
