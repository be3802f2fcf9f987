"""Random orders of the training images, one of them fast to read from a disk."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class BlockOrder:
    """Shuffles blocks of neighbouring images, then shuffles the images within each window of `window` blocks.

    Two-level shuffling as in CorgiPile (Xu et al., SIGMOD 2022, which shows that stochastic gradient descent converges
    with it as with a full shuffle). FFCV calls it quasi-random (Leclerc et al., CVPR 2023). WebDataset's shards and
    tf.data's shuffle buffer are similar. A batch takes its images from one window, or from two at their border, so the
    disk reads whole blocks and the system's cache needs to hold only a few of them.
    """

    block: int  # images per block: 0 … block - 1 are the first block, and so on
    window: int = 128  # blocks per window; all windows of an epoch are about equally large

    def shuffle(self, indices_N: Tensor, generator: Generator) -> Tensor:
        """Returns the same images (N,) in a new order, each as often as before."""
        rising_N = indices_N.sort().values
        sizes = torch.unique_consecutive(rising_N // self.block, return_counts=True)[1]
        blocks = torch.split(rising_N, sizes.tolist())
        order = torch.randperm(len(blocks), generator=generator)
        windows = [
            torch.cat([blocks[k] for k in chosen]) for chosen in order.tensor_split(-(-len(order) // self.window))
        ]
        return torch.cat([window_M[torch.randperm(len(window_M), generator=generator)] for window_M in windows])


def full_shuffle(indices_N: Tensor, generator: Generator) -> Tensor:
    """Returns the images in a random order; all orders are equally likely."""
    return indices_N[torch.randperm(len(indices_N), generator=generator)]
