"""Some batches of an epoch together, before normalization: a captured step takes one after another from them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Shapes: N images, C channels, H x W pixels.


@dataclass(frozen=True)
class Stretch:
    """Whole batches in order; the last batch of an epoch may be short. `len` is the number of batches.

    `ready` makes of raw images (n, H, W, C) what the network reads, (n, C, H, W). `most`: the batches of the longest
    stretch of the epoch.
    """

    images_NHWC: Tensor
    labels_N: Tensor
    batch_size: int
    ready: Callable[[Tensor], Tensor]
    most: int

    def __len__(self) -> int:
        return -(-len(self.labels_N) // self.batch_size)

    @property
    def whole(self) -> int:
        """The number of batches that are not short."""
        return len(self.labels_N) // self.batch_size

    def divided(self, batches: int) -> "tuple[Stretch, Stretch | None]":
        """Returns the first so many batches, and the rest; None if nothing is left."""
        images = batches * self.batch_size
        if images >= len(self.labels_N):
            return self, None
        parts = [(each[:images], each[images:]) for each in (self.images_NHWC, self.labels_N)]
        (first_NHWC, rest_NHWC), (first_N, rest_N) = parts
        return (
            replace(self, images_NHWC=first_NHWC, labels_N=first_N),
            replace(self, images_NHWC=rest_NHWC, labels_N=rest_N),
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what the loader yields batch by batch."""
        images, labels = (torch.split(each, self.batch_size) for each in (self.images_NHWC, self.labels_N))
        for images_NHWC, labels_N in zip(images, labels, strict=True):
            yield self.ready(images_NHWC), labels_N
