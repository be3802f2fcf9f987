"""Gives images the channels and the size that a network wants, after normalization."""

import torch.nn.functional as F
from torch import Tensor, nn


class Fitting(nn.Module):
    """Maps images (N, 1 or C, H, W) to (N, C, height, width): repeats a gray channel, and scales with antialiasing.

    A module, so that the logged model contains it. None leaves the channels, or the size, as they are.
    """

    def __init__(self, channels: int | None = None, height_width: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.channels, self.height_width = channels, height_width

    def forward(self, images_NCHW: Tensor) -> Tensor:
        if self.channels is not None and images_NCHW.shape[1] != self.channels:
            images_NCHW = images_NCHW.expand(-1, self.channels, -1, -1)
        if self.height_width is not None and images_NCHW.shape[2:] != self.height_width:
            size = list(self.height_width)
            images_NCHW = F.interpolate(images_NCHW, size, mode="bilinear", antialias=True, align_corners=False)
        return images_NCHW

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Returns (C, H, W) of an image of the given shape once it is fitted."""
        return (self.channels or channels, *(self.height_width or (height, width)))
