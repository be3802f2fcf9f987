"""Segmentation: which pixels of a generated picture belong to a disc, a square, or neither."""

from collections.abc import Mapping

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

# Shapes: N pictures, H x W pixels, K classes.
Batch = tuple[Tensor, Tensor]
CLASSES = ("background", "disc", "square")
SIDE = 32


class Shapes(Dataset[tuple[Tensor, Tensor]]):
    """Draws one picture (1, H, W) with noise, and its mask (H, W) of class numbers, from the index alone."""

    def __init__(self, first: int, count: int, noise: float) -> None:
        self.first, self.count, self.noise = first, count, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = np.random.default_rng(self.first + index)
        rows_HW, columns_HW = np.mgrid[:SIDE, :SIDE]
        mask_HW = np.zeros((SIDE, SIDE), np.int64)
        for number in (1, 2):
            (row, column), radius = draw.integers(6, SIDE - 6, 2), draw.integers(3, 7)
            down_HW, right_HW = abs(rows_HW - row), abs(columns_HW - column)
            is_disc_HW = down_HW**2 + right_HW**2 <= radius**2
            mask_HW[is_disc_HW if number == 1 else (down_HW <= radius) & (right_HW <= radius)] = number
        picture_HW = 0.5 * (mask_HW > 0) + self.noise * draw.standard_normal((SIDE, SIDE))
        return torch.tensor(picture_HW[None]).float(), torch.tensor(mask_HW)


class ShapesData(pl.LightningDataModule):
    """Serves pictures that no other split has: they differ in their number."""

    def __init__(self, pictures: int = 256, batch_size: int = 32, noise: float = 0.1) -> None:
        super().__init__()
        self.pictures, self.batch_size, self.noise = pictures, batch_size, noise

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Shapes(0, self.pictures, self.noise), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Shapes(1_000_000, 64, self.noise), 64)

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Shapes(2_000_000, 64, self.noise), 64)


class Segmentation(pl.LightningModule):
    """A convolutional network that keeps the size of the picture; `filters` a layer."""

    def __init__(self, filters: int = 8, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.layers = nn.Sequential(
            nn.Conv2d(1, filters, 5, padding=2),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 5, padding=4, dilation=2),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, len(CLASSES), 5, padding=2),
        )
        self.example_input_array = torch.zeros(2, 1, SIDE, SIDE)

    def forward(self, pictures_N1HW: Tensor) -> Tensor:
        logits_NKHW: Tensor = self.layers(pictures_N1HW)
        return logits_NKHW

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._score(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        pictures_N1HW, masks_NHW = batch
        answers_NHW = self(pictures_N1HW).argmax(dim=1)
        return {"picture": pictures_N1HW, "mask": answers_NHW.byte(), "target": masks_NHW.byte()}

    def plot_predictions(self, split: str, predictions: Mapping[str, NDArray[np.generic]]) -> Figure:
        """Draws four pictures, their true masks, and the predicted ones."""
        figure = Figure(figsize=(8, 6), layout="tight")
        for row, name in enumerate(("picture", "target", "mask")):
            for column in range(4):
                axes = figure.add_subplot(3, 4, 4 * row + column + 1, title=name)
                axes.imshow(predictions[name][column].squeeze())
                axes.set_axis_off()
        return figure

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.lr)

    def _score(self, batch: Batch, split: str) -> Tensor:
        pictures_N1HW, masks_NHW = batch
        logits_NKHW = self(pictures_N1HW)
        loss = F.cross_entropy(logits_NKHW, masks_NHW)
        scores = {f"{split}/loss": loss, f"{split}/iou": mean_iou(logits_NKHW.argmax(dim=1), masks_NHW)}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(masks_NHW))
        return loss


def mean_iou(answers_NHW: Tensor, masks_NHW: Tensor) -> Tensor:
    """Returns intersection over union of the pixels of each class, averaged over the classes (Jaccard 1901)."""
    classes = [(answers_NHW == number, masks_NHW == number) for number in range(len(CLASSES))]
    shares = [(answered & true).sum() / (answered | true).sum().clamp(min=1) for answered, true in classes]
    return torch.stack(shares).mean()
