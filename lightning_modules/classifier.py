"""The LightningModule: loss, training, validation, test and predict steps, metrics an epoch."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.errors import check_choice
from lightning_modules.networks import build_network, check_network
from lightning_modules.optimizers import OptimizerConfig
from lightning_modules.row_buffer import RowBuffer

# Shapes: N images, C channels, H x W pixels, K classes.
Batch = tuple[Tensor, Tensor]
Loss = Literal["cross_entropy", "mse"]

_SUMMED_AT_ONCE = 256  # batches whose scores are added up together: a sum a batch would cost more than the scores


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and the loss it is trained with."""

    network: str = "BaselineCNN"  # a name from lightning_modules/networks, or a dotted path to an nn.Module
    network_args: dict[str, Any] = field(default_factory=dict)  # keyword arguments of its constructor
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        check_choice("model.loss", self.loss, Loss)
        check_network(self.network, self.network_args)

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The network for images of `image_shape` (C, H, W) in `num_classes` classes, freshly initialised."""
        return build_network(self.network, self.network_args, image_shape, num_classes)


class ImageClassifier(pl.LightningModule):
    """Trains `network`, which maps float images (N, C, H, W) to logits (N, K).

    `loss`: `cross_entropy` takes the integer labels as they are; `mse` is the mean squared error between the softmax
    probabilities and one-hot targets (Brier score / K). Loss and accuracy of each split are means over its images,
    logged once an epoch as `{split}/loss` and `{split}/accuracy`; train's are taken while the weights move.
    `probabilities` holds the class probabilities (N, K) of the latest pass over val and over test, in their order.
    """

    def __init__(
        self, network: nn.Module, *, loss: Loss = "cross_entropy", optimizer: OptimizerConfig | None = None
    ) -> None:
        super().__init__()
        check_choice("model.loss", loss, Loss)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        self.loss = loss
        self.optimizer_config = optimizer or OptimizerConfig()
        # split → loss and hits (tensors, on the device) and number of images of the latest batches, not yet summed
        self._batches: dict[str, list[tuple[Tensor, Tensor, int]]] = {}
        self._sums: dict[str, Tensor] = {}  # split → summed loss, hits and images of the epoch's batches before those
        self._logits: dict[str, RowBuffer] = {}  # split → logits (N, K) of a pass over val or test
        self.probabilities: dict[str, Tensor] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the running hook some forty times a step, and nn.Module looks at each as if it were a weight.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.network(images_NCHW)
        return logits_NK

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._score(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities (N, K)."""
        logits_NK: Tensor = self(batch[0])
        return logits_NK.softmax(dim=1)

    def _score(self, batch: Batch, split: str) -> Tensor:
        images_NCHW, labels_N = batch
        logits_NK = self.network(images_NCHW)
        if self.loss == "mse":
            loss = F.mse_loss(logits_NK.softmax(dim=1), F.one_hot(labels_N, logits_NK.shape[1]).to(logits_NK.dtype))
        else:
            loss = F.cross_entropy(logits_NK, labels_N)
        if split != "train":
            self._logits.setdefault(split, RowBuffer()).add(logits_NK.detach())
        hits = (logits_NK.detach().argmax(dim=1) == labels_N).sum()
        batches = self._batches.setdefault(split, [])
        batches.append((loss.detach(), hits, len(labels_N)))
        if len(batches) == _SUMMED_AT_ONCE:
            self._sum_up(split)
        return loss

    def _sum_up(self, split: str) -> None:
        """Adds the latest batches to the epoch's sums, in double precision."""
        losses, hits, counts = zip(*self._batches.pop(split), strict=True)
        device = torch.device("cpu") if losses[0].device.type == "mps" else losses[0].device  # mps has no float64
        images = torch.tensor(counts, dtype=torch.float64).to(device, non_blocking=True)
        losses_B, hits_B = torch.stack(losses).to(device).double(), torch.stack(hits).to(device).double()
        sums = torch.stack([losses_B @ images, hits_B.sum(), images.sum()])
        self._sums[split] = self._sums[split] + sums if split in self._sums else sums

    def _log_epoch(self, split: str) -> None:
        """Means over the epoch's images; nothing where no batch was seen."""
        if self._batches.get(split):
            self._sum_up(split)
        if split in self._sums:
            loss, hits, images = self._sums.pop(split)
            self.log_dict({f"{split}/loss": loss / images, f"{split}/accuracy": hits / images})
        if logits := self._logits.pop(split, None):
            self.probabilities[split] = logits.rows.float().softmax(dim=1).cpu()

    def _begin_epoch(self, split: str) -> None:
        self._batches.pop(split, None)  # of a pass that was broken off
        self._sums.pop(split, None)
        self._logits.pop(split, None)

    def on_train_epoch_start(self) -> None:
        self._begin_epoch("train")

    def on_validation_epoch_start(self) -> None:
        self._begin_epoch("val")

    def on_test_epoch_start(self) -> None:
        self._begin_epoch("test")

    def on_train_epoch_end(self) -> None:
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_config.build(self.network)
        schedule = self.optimizer_config.build_schedule(optimizer, self.trainer.estimated_stepping_batches)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
