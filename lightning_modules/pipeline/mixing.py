"""Mixes the images of a training batch with each other: mixup and CutMix. The loss mixes the labels alike.

Zhang, Cissé, Dauphin and Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018. Yun, Han, Oh, Chun, Choe and
Yoo, CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, ICCV 2019.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta

# Shapes: N images, C channels, H x W pixels.


@dataclass(frozen=True)
class Mixing:
    """`mixup` and `cutmix`: the parameter α of the Beta(α, α) distribution of shares; 0: never.

    With both, each batch takes one of them, with probability 1/2. Random values are drawn from torch's own state on the
    CPU, which every checkpoint holds. A batch has one share, as in the papers' code.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __bool__(self) -> bool:
        return max(self.mixup, self.cutmix) > 0

    def apply(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor, float]:
        """Returns the mixed images, the partner (N,) of each, and the share of its own label."""
        partners_N = torch.randperm(len(images_NCHW)).to(images_NCHW.device, non_blocking=True)
        is_cut = self.cutmix > 0 and (self.mixup == 0 or bool(torch.rand(()) < 0.5))
        alpha = self.cutmix if is_cut else self.mixup
        share = float(Beta(alpha, alpha).sample())
        others_NCHW = images_NCHW[partners_N]
        if not is_cut:
            return share * images_NCHW + (1 - share) * others_NCHW, partners_N, share
        rows, columns = _rectangle(images_NCHW, share)
        mixed_NCHW = images_NCHW.clone()
        mixed_NCHW[:, :, rows, columns] = others_NCHW[:, :, rows, columns]
        height, width = images_NCHW.shape[2:]
        cut = (rows.stop - rows.start) * (columns.stop - columns.start)
        return mixed_NCHW, partners_N, 1 - cut / (height * width)


def _rectangle(images_NCHW: Tensor, share: float) -> tuple[slice, slice]:
    """Draws a rectangle's centre; its sides are √(1 - share) of the image's, and the image's border cuts it off."""
    bounds = []
    for side in images_NCHW.shape[2:]:
        half = int(side * math.sqrt(1 - share)) // 2
        centre = int(torch.randint(side, ()))
        bounds.append(slice(max(0, centre - half), min(side, centre + half)))
    return bounds[0], bounds[1]
