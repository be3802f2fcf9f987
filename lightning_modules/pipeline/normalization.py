"""Turns raw pixels into the values that a network reads, with statistics of the train split alone."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from lightning_modules.images.remembered import remembered
from lightning_modules.pipeline.splits import Subset

# Shapes: N images, H x W pixels, C channels.
NormalizationKind = Literal["per_pixel", "per_channel", "min_max", "none"]
_CHUNK, _CHUNK_BYTES = 4096, 2**25  # images, and bytes of doubles, read at a time while fitting; sklearn makes 3 copies


class Normalization(nn.Module):
    """Maps raw images (N, C, H, W) of any dtype to float32: `images * scale + offset`, in one pass.

    It is a module, so that checkpoints and the logged model contain its two tensors, which broadcast to (C, H, W).
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.float())
        self.register_buffer("offset", offset.float())

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return torch.addcmul(self.offset, images_NCHW, self.scale)


def fit_normalization(kind: NormalizationKind, train: Subset, known_as: str | None = None) -> Normalization:
    """Returns the normalization that is fitted on `train` alone, which is read in chunks.

    `known_as`: what identifies every byte of `train`, such as a hash. Means and variances of the same images are then
    computed once on a machine.

    `per_pixel`: mean 0 and variance 1 for every pixel, by scikit-learn's StandardScaler (a constant pixel becomes 0);
    `per_channel`: the same with one mean and variance per channel; `min_max`: the lowest and the highest value in train
    become 0 and 1; `none`: raw values as floats.
    """
    height, width, channels = train.images.shape[1:]
    if kind == "none":
        return Normalization(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    if kind == "min_max":
        extremes = [(float(chunk.min()), float(chunk.max())) for chunk in _chunks(train)]
        low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
        spread = (high - low) or 1.0
        return Normalization(torch.full((1, 1, 1), 1 / spread), torch.full((1, 1, 1), -low / spread))
    shape = (height, width, channels) if kind == "per_pixel" else (1, 1, channels)

    def fit() -> str:
        scaler = StandardScaler()
        for chunk in _chunks(train):
            scaler.partial_fit(chunk.reshape(-1, int(np.prod(shape))).astype(np.float64))
        return np.stack([scaler.mean_, scaler.scale_]).tobytes().hex()

    libraries = f"numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    key = f"mean and scale, version 1: {kind}, {shape}, {libraries}, of {known_as}"
    fitted = bytes.fromhex(fit() if known_as is None else remembered(key, fit))
    mean_scale = torch.frombuffer(bytearray(fitted), dtype=torch.float64)
    mean_CHW, scale_CHW = (x.reshape(shape).permute(2, 0, 1) for x in mean_scale.reshape(2, -1))
    return Normalization(1 / scale_CHW, -mean_CHW / scale_CHW)


def _chunks(train: Subset) -> Iterator[NDArray[Any]]:
    size = min(_CHUNK, max(1, _CHUNK_BYTES // (8 * int(np.prod(train.images.shape[1:])))))
    for start in range(0, len(train), size):
        yield train.images[train.indices[start : start + size]]
