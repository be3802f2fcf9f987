"""LightningModules and data modules of a stranger's, for tasks that the workbench does not know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

Batch = tuple[Tensor, Tensor]


def _line(first: int, count: int, batch_size: int) -> DataLoader[Any]:
    """Points of y = 2 x + 1."""
    x = torch.arange(first, first + count).float()[:, None] / 100
    return DataLoader(TensorDataset(x, 2 * x + 1), batch_size, shuffle=True)


class Line(pl.LightningDataModule):
    def __init__(self, count: int = 64, batch_size: int = 16) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def train_dataloader(self) -> Any:
        return _line(0, self.count, self.batch_size)

    def val_dataloader(self) -> Any:
        return DataLoader(_line(1000, 16, 16).dataset, 16)


class OnlyTrain(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return _line(0, 64, 16)


class Stream(Line):
    def train_dataloader(self) -> Any:
        class Points(IterableDataset[Tensor]):
            def __iter__(self) -> Iterator[Any]:
                yield from ((torch.ones(1), torch.ones(1)) for _ in range(8))

        return DataLoader(Points(), 4)


class InAFile(Line):
    """Reads its training data from a file, whose digest it tells itself."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)

    def sha256(self) -> str:
        return f"digest of {self.path.read_text()}"


class BrokenData(Line):
    def setup(self, stage: str) -> None:
        raise FileNotFoundError("points.csv")


class Fit(pl.LightningModule):
    """As in Lightning's own introduction."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.mse_loss(self.layer(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.mse_loss(self.layer(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.hparams["lr"])


class LogsBothWays(Fit):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.mse_loss(self.layer(x), y)
        self.log("fit", loss, on_step=True, on_epoch=True)
        return loss


class LogsNothing(Fit):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.mse_loss(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass


class Manual(Fit):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.layer(batch[0]), batch[1])
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("train_loss", loss)
        return loss


class TwoOptimizers(pl.LightningModule):
    """A generator and a discriminator, each with an optimizer and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 1))
        self.discriminator = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 1))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        _, real = batch
        fake = self.generator(torch.randn_like(real))
        ones, zeros = torch.ones_like(real), torch.zeros_like(real)
        tell = F.binary_cross_entropy_with_logits
        judged = tell(self.discriminator(real), ones) + tell(self.discriminator(fake.detach()), zeros)
        for optimizer, loss in zip(optimizers, (tell(self.discriminator(fake), ones), judged), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("judged", judged, on_epoch=True, on_step=False)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.generator.parameters()), torch.optim.Adam(self.discriminator.parameters())]


class Breaks(Fit):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        raise ZeroDivisionError("in the user's code")


class BreaksLate(Fit):
    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise ZeroDivisionError("late, in postgresql://me:secret@host/runs")


class HoldsAnObject(Fit):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = Path


class Wide(pl.LightningModule):
    """Classifies the workbench's own images, whose shape it asks for."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(image_shape[1] * image_shape[2], num_classes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        right = self.layers(batch[0]).argmax(dim=1) == batch[1]
        self.log("val/accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


def a_function(lr: float = 0.1) -> Fit:
    return Fit(lr)


def no_module() -> int:
    return 3
