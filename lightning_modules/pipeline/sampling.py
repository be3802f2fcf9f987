"""Which training images an epoch shows, and how often."""

from typing import Literal

import torch
from torch import Generator, Tensor

# Shapes: N images, K classes.
Sampling = Literal["shuffled", "balanced"]


def draw_balanced(labels_N: Tensor, generator: Generator) -> Tensor:
    """Draws N positions in `labels_N` independently: for each, first a class, then one of the images of that class.

    All classes are equally likely. So images of a rare class come several times, and some other images not at all.
    """
    counts_K = labels_N.bincount()
    counts_K = counts_K[counts_K > 0]
    drawn_N = torch.randint(len(counts_K), labels_N.shape, generator=generator)
    share_N = torch.rand(len(labels_N), generator=generator, dtype=torch.float64)
    by_class_N = labels_N.argsort(stable=True)
    first_K = counts_K.cumsum(0) - counts_K
    return by_class_N[first_K[drawn_N] + (share_N * counts_K[drawn_N]).long()]
