"""Random augmentation of training images. It works on whole batches, but each image gets its own random values."""

from dataclasses import field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from lightning_modules.config import Probability, section
from lightning_modules.pipeline.mixing import Mixing
from lightning_modules.plug import Plug

# Shapes: N images, H x W pixels, C channels.
Padding = Literal["black", "mirror"]
PixelPlaces = tuple[Tensor, Tensor]  # rows (N, H) and columns (N, W) that each pixel of the result comes from
_FAR = 2**20  # row or column of black pixels: outside any image, even a rotated one

# Bounds of an erased rectangle: its share of the image, and its height / width, each relative to the image's. Zhong,
# Zheng, Kang, Li and Yang, Random Erasing Data Augmentation, AAAI 2020. The largest share is torchvision's.
_LEAST_ERASED, _MOST_ERASED, _MOST_ELONGATED = 0.02, 0.33, 3.3


@section("data.augmentation")
class AugmentationConfig:
    """Random changes to a training image each time it is shown. Each image gets its own random values.

    They apply to raw pixels before normalization, so that a moved pixel is normalized by the statistics of its new
    place. The order is: rotation about the centre, shift, horizontal flip, erasing, noise on the whole image, `own`.
    `mixup` and `cutmix` follow in the training step (mixing.py).
    """

    shift: Annotated[int, Field(ge=0, le=10_000, examples=[2])] = 0
    """The largest shift in pixels, in both directions on both axes: a random crop of the padded image."""

    horizontal_flip: bool = False
    """Flips left and right with probability 1/2."""

    rotation: Annotated[float, Field(ge=0, le=180, examples=[10])] = 0.0
    """The largest rotation in degrees, in both directions, with bilinear interpolation."""

    padding: Padding = "black"
    """What fills the border that a shift or rotation uncovers: raw 0, or the image mirrored at its border."""

    erasing: Probability = 0.0
    """The probability that a rectangle of the image is set to raw 0."""

    noise: Annotated[float, Field(ge=0, examples=[10])] = 0.0
    """The standard deviation of Gaussian noise in raw units (8-bit images: 0 to 255). The result is not clipped."""

    mixup: Annotated[float, Field(ge=0, le=100, examples=[0.2])] = 0.0
    """Mixes each image and label with another of the batch: α of the Beta(α, α) distribution of the shares."""

    cutmix: Annotated[float, Field(ge=0, le=100, examples=[1.0])] = 0.0
    """Pastes a rectangle of another image of the batch, and mixes the labels by its area: α as in mixup."""

    own: list[str | dict[str, Any]] = field(default_factory=list)
    """Your own augmentations: dotted paths, or {kind: path, args: {…}}, of classes and functions.

    They map raw images (N, C, H, W) to images of the same shape, and get `generator` if they have such an argument.
    """

    def __post_init__(self) -> None:
        for plug in self._plugs():
            plug.check(["generator"], inputs=1)

    @property
    def mixing(self) -> Mixing:
        return Mixing(self.mixup, self.cutmix)

    def _plugs(self) -> list[Plug]:
        return [Plug.parse(f"data.augmentation.own[{index}]", entry) for index, entry in enumerate(self.own)]

    def __bool__(self) -> bool:
        """Whether any augmentation of single images is on."""
        return bool(self.own) or self.horizontal_flip or max(self.shift, self.rotation, self.erasing, self.noise) > 0

    def apply(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """Returns augmented images; `generator` (on the CPU) draws the random values. Device and shape stay the same.

        The dtype stays the same too, except that rotation and noise return float32.
        """
        if self.rotation:
            degrees_N = (2 * torch.rand(len(images_NHWC), generator=generator) - 1) * self.rotation
            images_NHWC = rotate(images_NHWC, degrees_N, self.padding, self._draw_places(images_NHWC, generator))
        elif self.shift or self.horizontal_flip:
            images_NHWC = _gather(images_NHWC, self._draw_places(images_NHWC, generator))
        if self.erasing:
            images_NHWC = self._erase(images_NHWC, generator)
        if self.noise:
            images_NHWC = _normal_like(images_NHWC, generator).mul_(self.noise).add_(images_NHWC)
        for plug in self._plugs():
            change = plug.function({"generator": generator})
            images_NHWC = change(images_NHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return images_NHWC

    def _draw_places(self, images_NHWC: Tensor, generator: Generator) -> PixelPlaces:
        """Draws shifts and flips, and returns where each pixel of the result comes from."""
        count, height, width, _ = images_NHWC.shape
        rows_NH, columns_NW = _unmoved(images_NHWC)
        if self.horizontal_flip:
            flipped_N1 = (torch.rand(count, 1, generator=generator) < 0.5).to(columns_NW.device, non_blocking=True)
            columns_NW = torch.where(flipped_N1, columns_NW.flip(1), columns_NW)
        if self.shift:
            moves_2N1 = torch.randint(-self.shift, self.shift + 1, (2, count, 1), generator=generator)
            moves_2N1 = moves_2N1.to(rows_NH.device, non_blocking=True)
            rows_NH = _pad(rows_NH + moves_2N1[0], height, self.padding)
            columns_NW = _pad(columns_NW + moves_2N1[1], width, self.padding)
        return rows_NH, columns_NW

    def _erase(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """Sets a rectangle to 0 in some of the images. As in the paper, area and proportion are drawn first."""
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
        return torch.where((within_NH[:, :, None] & within_NW[:, None, :])[..., None], 0, images_NHWC)


def rotate(
    images_NHWC: Tensor, degrees_N: Tensor, padding: Padding = "black", places: PixelPlaces | None = None
) -> Tensor:
    """Rotates each image counter-clockwise about its centre, with bilinear interpolation. Returns float32.

    Proportions stay the same. With `places`, the result is `_gather(rotated images, places)`, but in a single pass.
    """
    _, height, width, _ = images_NHWC.shape
    rows_NH, columns_NW = places or _unmoved(images_NHWC)
    # Where each pixel of the result comes from. The image spans -1 to 1 on both axes.
    x_N1W = ((2 * columns_NW + 1) / width - 1)[:, None, :]
    y_NH1 = ((2 * rows_NH + 1) / height - 1)[:, :, None]
    angles_N = torch.deg2rad(degrees_N.double())
    cos_N, sin_N = angles_N.cos(), angles_N.sin()
    turns_22N11 = torch.stack([cos_N, sin_N * width / height, -sin_N * height / width, cos_N]).view(2, 2, -1, 1, 1)
    by_x_2N11, by_y_2N11 = turns_22N11.float().to(images_NHWC.device, non_blocking=True)
    from_2NHW = by_x_2N11 * x_N1W + by_y_2N11 * y_NH1
    turned_NCHW = F.grid_sample(
        images_NHWC.permute(0, 3, 1, 2).float(),
        from_2NHW.permute(1, 2, 3, 0),
        padding_mode={"black": "zeros", "mirror": "reflection"}[padding],
        align_corners=False,
    )
    return turned_NCHW.permute(0, 2, 3, 1)


def _gather(images_NHWC: Tensor, places: PixelPlaces) -> Tensor:
    """Returns the pixels at `places`. Places beyond the last row or column, such as `_FAR`, are black."""
    count, height, width, _ = images_NHWC.shape
    rows_NH1, columns_N1W = places[0][:, :, None].clamp(max=height), places[1][:, None, :].clamp(max=width)
    samples_N11 = torch.arange(count, device=images_NHWC.device)[:, None, None]
    return F.pad(images_NHWC, (0, 0, 0, 1, 0, 1))[samples_N11, rows_NH1, columns_N1W]


def _unmoved(images_NHWC: Tensor) -> PixelPlaces:
    """Returns places that leave every pixel where it is."""
    count, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    return torch.arange(height, device=device).expand(count, -1), torch.arange(width, device=device).expand(count, -1)


def _pad(indices: Tensor, size: int, padding: Padding) -> Tensor:
    """Replaces indices outside 0 … size-1 by `_FAR`, or mirrors them at the border, which repeats the border pixel."""
    if padding == "mirror":
        within = indices % (2 * size)
        return torch.minimum(within, 2 * size - 1 - within)
    return torch.where((indices >= 0) & (indices < size), indices, _FAR)


def _normal_like(images: Tensor, generator: Generator) -> Tensor:
    """Draws standard normal float32 noise on the images' device, because sending it there every step is slow."""
    own = torch.Generator(images.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return torch.randn(images.shape, generator=own, device=images.device)
