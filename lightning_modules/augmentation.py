"""Per-sample random augmentation on whole batches, for train alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lightning_modules.errors import InputError

# Shapes: N images, H x W pixels, C channels.


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """What may happen to a training image each time it is shown."""

    shift: int = 0  # moved by up to this many pixels each way, both axes; what comes into view is raw 0
    horizontal_flip: bool = False  # mirrored with probability one half

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise InputError("data.augmentation.shift", self.shift, "must be 0 or more pixels", "try 2")

    def __bool__(self) -> bool:
        """Whether anything happens at all."""
        return self.shift > 0 or self.horizontal_flip

    def apply(self, images_NHWC: Tensor, generator: Generator) -> Tensor:
        """Shifts and mirrors each image by its own draw of `generator` (on the CPU); device, dtype and shape stay."""
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
            images_NHWC = F.pad(images_NHWC, (0, 0, self.shift, self.shift, self.shift, self.shift))
        samples_N11 = torch.arange(count, device=device)[:, None, None]
        return images_NHWC[samples_N11, rows_NH[:, :, None], columns_NW[:, None, :]]
