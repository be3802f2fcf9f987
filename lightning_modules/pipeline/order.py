"""The order in which training images come, random and yet easy to read from a disk."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class BlockOrder:
    """Blocks of neighbouring images in random order, and `window` blocks at a time mixed image by image.

    Two-level shuffling as in CorgiPile (Xu et al., SIGMOD 2022, which shows that stochastic gradient descent converges
    with it as with a full shuffle); FFCV calls it quasi-random (Leclerc et al., CVPR 2023), and WebDataset's shards and
    tf.data's shuffle buffer are its kin. A batch takes its images from one window, or from two where it spans their
    border, so that a disk reads whole blocks and the system's cache needs to hold few of them.
    """

    block: int  # images: those numbered 0 … block - 1 make one, and so on
    window: int = 128  # blocks; all windows of an epoch are about equally large

    def shuffle(self, indices_N: Tensor, generator: Generator) -> Tensor:
        """The same images (N,), each as often as it was given."""
        rising_N = indices_N.sort().values
        sizes = torch.unique_consecutive(rising_N // self.block, return_counts=True)[1]
        blocks = torch.split(rising_N, sizes.tolist())
        order = torch.randperm(len(blocks), generator=generator)
        windows = [
            torch.cat([blocks[k] for k in chosen]) for chosen in order.tensor_split(-(-len(order) // self.window))
        ]
        return torch.cat([window_M[torch.randperm(len(window_M), generator=generator)] for window_M in windows])


def full_shuffle(indices_N: Tensor, generator: Generator) -> Tensor:
    """Every order equally likely."""
    return indices_N[torch.randperm(len(indices_N), generator=generator)]
