"""Which training images an epoch shows, and how often."""

from typing import Literal

import torch
from torch import Generator, Tensor

# Shapes: N images, K classes.
Sampling = Literal["shuffled", "balanced"]


def draw_balanced(labels_N: Tensor, generator: Generator) -> Tensor:
    """As many places in `labels_N` as it has, each drawn on its own: first a class, then one of its images.

    All classes have equal chance, so that images of a rare one come several times and others not at all.
    """
    counts_K = labels_N.bincount()
    counts_K = counts_K[counts_K > 0]
    drawn_N = torch.randint(len(counts_K), labels_N.shape, generator=generator)
    share_N = torch.rand(len(labels_N), generator=generator, dtype=torch.float64)
    by_class_N = labels_N.argsort(stable=True)
    first_K = counts_K.cumsum(0) - counts_K
    return by_class_N[first_K[drawn_N] + (share_N * counts_K[drawn_N]).long()]
