"""Lightning with MLFlowLogger, self.log, ModelCheckpoint and DataLoader, as their documentation shows them."""

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


def train(
    splits: dict[str, tuple[Tensor, Tensor]], epochs: int, folder: Path, learning_rate: float = 1e-3
) -> tuple[float, float]:
    """Trains for `epochs` with its runs in `folder`; the accuracy on val and on test."""
    loaders = {
        name: DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=name == "train")
        for name, (images, labels) in splits.items()
    }
    logger = MLFlowLogger(
        experiment_name="textbook",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=(folder / "artifacts").as_uri(),
    )
    checkpoint = ModelCheckpoint(dirpath=folder / "checkpoints", monitor="val_acc", mode="max")
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", logger=logger, callbacks=[checkpoint])
    trainer.fit(model := LitClassifier(learning_rate), loaders["train"], loaders["val"])
    val = float(trainer.callback_metrics["val_acc"])
    return val, float(trainer.test(model, loaders["test"])[0]["test_acc"])
