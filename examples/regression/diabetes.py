"""Regression on a table: how far diabetes progresses in a year, from ten measurements of a patient.

Data: Efron et al. 2004, "Least Angle Regression", as in scikit-learn.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

# Shapes: N patients, F features.
Batch = tuple[Tensor, Tensor]


class Diabetes(pl.LightningDataModule):
    """Serves the 442 patients: 60 % to train on, 20 % for validation, 20 % for test."""

    def __init__(self, batch_size: int = 32, split_seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.split_seed = batch_size, split_seed

    def setup(self, stage: str) -> None:
        features_NF, progress_N = load_diabetes(return_X_y=True)
        features_NF = features_NF / features_NF.std(axis=0)
        patients = TensorDataset(torch.tensor(features_NF).float(), torch.tensor(progress_N).float())
        generator = torch.Generator().manual_seed(self.split_seed)
        self.train, self.val, self.test = random_split(patients, [0.6, 0.2, 0.2], generator)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, len(self.val))

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, len(self.test))


class Regression(pl.LightningModule):
    """A network of one hidden layer, trained on the squared error. Its answers are in the units of the target."""

    def __init__(self, hidden: int = 16, lr: float = 0.01, dropout: float = 0.0, scale: float = 100.0) -> None:
        super().__init__()
        self.lr, self.scale = lr, scale
        self.layers = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))
        self.example_input_array = torch.zeros(2, 10)  # so that the model is logged

    def forward(self, features_NF: Tensor) -> Tensor:
        answers_N: Tensor = self.layers(features_NF)[:, 0] * self.scale + 1.5 * self.scale
        return answers_N

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._score(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        features_NF, progress_N = batch
        return {"prediction": self(features_NF), "target": progress_N}

    def plot_predictions(self, split: str, predictions: Mapping[str, NDArray[np.float32]]) -> Figure:
        """Draws the answers over the truth."""
        figure = Figure(figsize=(5, 5), layout="tight")
        axes = figure.add_subplot()
        axes.scatter(predictions["target"], predictions["prediction"], s=8)
        axes.axline((150, 150), slope=1, color="gray")
        axes.set(title=split, xlabel="progression", ylabel="predicted", aspect="equal")
        return figure

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)

    def _score(self, batch: Batch, split: str) -> Tensor:
        features_NF, progress_N = batch
        answers_N = self(features_NF)
        loss = F.mse_loss(answers_N / self.scale, progress_N / self.scale)
        errors = {f"{split}/loss": loss, f"{split}/mae": F.l1_loss(answers_N, progress_N)}
        self.log_dict(errors, on_step=False, on_epoch=True, batch_size=len(progress_N))
        return loss
