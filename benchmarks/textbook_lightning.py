"""Lightning with MLFlowLogger, self.log, ModelCheckpoint and DataLoader, as in their documentation."""

from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.textbook_pytorch import network


class LitClassifier(pl.LightningModule):
    def __init__(self, learning_rate: float = 1e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = network()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels)
        self.log("train_loss", loss)
        self.log("train_acc", (logits.argmax(dim=1) == labels).float().mean())
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: list[Tensor], stage: str) -> None:
        images, labels = batch
        logits = self.model(images)
        self.log(f"{stage}_loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log(f"{stage}_acc", (logits.argmax(dim=1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])


def fit(
    splits: dict[str, tuple[Tensor, Tensor]], epochs: int, folder: Path, learning_rate: float = 1e-3
) -> tuple[pl.Trainer, LitClassifier]:
    """Trains, validates after each epoch, and keeps its runs in `folder`."""
    logger = MLFlowLogger(
        experiment_name="textbook",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=(folder / "artifacts").as_uri(),
    )
    checkpoint = ModelCheckpoint(dirpath=folder / "checkpoints", monitor="val_acc", mode="max")
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", logger=logger, callbacks=[checkpoint])
    model = LitClassifier(learning_rate)
    trainer.fit(model, loader(splits["train"], shuffle=True), loader(splits["val"]))
    return trainer, model


def train(splits: dict[str, tuple[Tensor, Tensor]], epochs: int, folder: Path, learning_rate: float = 1e-3) -> float:
    """The same, then returns the accuracy on test. Splits: float images (N, 1, 28, 28), labels."""
    trainer, model = fit(splits, epochs, folder, learning_rate)
    return float(trainer.test(model, loader(splits["test"]))[0]["test_acc"])


def loader(split: tuple[Tensor, Tensor], shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*split), batch_size=32, shuffle=shuffle)
