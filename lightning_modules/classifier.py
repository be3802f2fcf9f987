"""The LightningModule: loss, training, validation, test and predict steps, metrics an epoch."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from lightning_modules.errors import check_choice
from lightning_modules.networks import build_network, check_network
from lightning_modules.optimizers import OptimizerConfig
from lightning_modules.pipeline.row_buffer import RowBuffer

# Shapes: N images, C channels, H x W pixels, K classes, B batches.
Batch = tuple[Tensor, Tensor]
Loss = Literal["cross_entropy", "mse"]
ClassWeights = Literal["none", "balanced"]

_SUMMED_AT_ONCE = 256  # batches whose scores are added up together: a sum a batch would cost more than the scores


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and the loss it is trained with."""

    network: str = "BaselineCNN"  # a name from lightning_modules/networks, or a dotted path to an nn.Module
    network_args: dict[str, Any] = field(default_factory=dict)  # keyword arguments of its constructor
    loss: Loss = "cross_entropy"
    class_weights: ClassWeights = "none"  # in training; balanced: an image of a class half as frequent counts twice

    def __post_init__(self) -> None:
        check_choice("model.loss", self.loss, Loss)
        check_choice("model.class_weights", self.class_weights, ClassWeights)
        check_network(self.network, self.network_args)

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The network for images of `image_shape` (C, H, W) in `num_classes` classes, freshly initialised."""
        return build_network(self.network, self.network_args, image_shape, num_classes)

    def weigh_classes(self, labels_N: NDArray[np.int64]) -> Tensor | None:
        """What an image of each class counts (K,), given the train split's labels; None where all count the same.

        `balanced` is scikit-learn's: N / (K · images of the class), so that the train split's mean weight is 1.
        """
        if self.class_weights == "none":
            return None
        weights_K = compute_class_weight("balanced", classes=np.unique(labels_N), y=labels_N)
        return torch.from_numpy(weights_K).float()


class ImageClassifier(pl.LightningModule):
    """Trains `network`, which maps float images (N, C, H, W) to logits (N, K).

    `loss`: `cross_entropy` takes the integer labels as they are; `mse` is the mean squared error between the softmax
    probabilities and one-hot targets (Brier score / K). Loss and accuracy of each split are means over its images,
    logged once an epoch as `{split}/loss` and `{split}/accuracy`; train's are taken while the weights move. Val and
    test have `{split}/macro_f1` too: the mean over classes of F1, the harmonic mean of precision and recall.

    `class_weights` (K,) multiply each training image's loss before the mean, as Keras's `class_weight` do (torch's own
    divide by the batch's weights instead of its images). The losses of val and test are never weighted, so that they
    mean the same whatever was trained with.

    `probabilities` holds the class probabilities (N, K) of the latest pass over val and over test, in their order.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: Loss = "cross_entropy",
        class_weights: Tensor | None = None,
        optimizer: OptimizerConfig | None = None,
    ) -> None:
        super().__init__()
        check_choice("model.loss", loss, Loss)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        self.loss = loss
        self.register_buffer("class_weights", class_weights, persistent=False)  # the train split's, not the network's
        self.optimizer_config = optimizer or OptimizerConfig()
        # split → losses of batches and hits of images (on the device), numbers of images of batches: not yet summed
        self._batches: dict[str, tuple[RowBuffer, RowBuffer, list[int]]] = {}
        self._sums: dict[str, Tensor] = {}  # split → summed loss, hits and images of the epoch's batches before those
        self._answers: dict[str, tuple[RowBuffer, RowBuffer]] = {}  # split → logits (N, K) and labels (N,) of a pass
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
        loss = self._loss(logits_NK, labels_N, self.class_weights if split == "train" else None)
        if split != "train":
            logits, labels = self._answers.setdefault(split, (RowBuffer(), RowBuffer()))
            logits.add(logits_NK.detach())
            labels.add(labels_N)
        if split not in self._batches:
            self._batches[split] = (RowBuffer(), RowBuffer(), [])
        losses_B, hits_N, images_B = self._batches[split]
        losses_B.add(loss.detach()[None])
        hits_N.add(logits_NK.detach().argmax(dim=1) == labels_N)
        images_B.append(len(labels_N))
        if len(images_B) == _SUMMED_AT_ONCE:
            self._sum_up(split)
        return loss

    def _loss(self, logits_NK: Tensor, labels_N: Tensor, weights_K: Tensor | None) -> Tensor:
        """The mean over the images, each times the weight of its class where there are weights."""
        reduction = "mean" if weights_K is None else "none"
        if self.loss == "mse":
            targets_NK = F.one_hot(labels_N, logits_NK.shape[1]).to(logits_NK.dtype)
            loss = F.mse_loss(logits_NK.softmax(dim=1), targets_NK, reduction=reduction)
        else:
            loss = F.cross_entropy(logits_NK, labels_N, reduction=reduction)
        if weights_K is None:
            return loss
        return (weights_K[labels_N] * loss.reshape(len(labels_N), -1).mean(dim=1)).mean()

    def _sum_up(self, split: str) -> None:
        """Adds the latest batches to the epoch's sums, in double precision."""
        *buffers, counts = self._batches.pop(split)
        losses_B, hits_N = (buffer.rows for buffer in buffers)
        device = torch.device("cpu") if losses_B.device.type == "mps" else losses_B.device  # mps has no float64
        images = torch.tensor(counts, dtype=torch.float64).to(device, non_blocking=True)
        losses_B, hits = losses_B.to(device).double(), hits_N.sum().to(device).double()
        sums = torch.stack([losses_B @ images, hits, images.sum()])
        self._sums[split] = self._sums[split] + sums if split in self._sums else sums

    def _log_epoch(self, split: str) -> None:
        """Means over the epoch's images; nothing where no batch was seen."""
        if split in self._batches:
            self._sum_up(split)
        if split in self._sums:
            loss, hits, images = self._sums.pop(split)
            self.log_dict({f"{split}/loss": loss / images, f"{split}/accuracy": hits / images})
        if answers := self._answers.pop(split, None):
            logits_NK, labels_N = (buffer.rows for buffer in answers)
            self.log(f"{split}/macro_f1", macro_f1(labels_N, logits_NK.argmax(dim=1), logits_NK.shape[1]))
            self.probabilities[split] = logits_NK.float().softmax(dim=1).cpu()

    def _begin_epoch(self, split: str) -> None:
        self._batches.pop(split, None)  # of a pass that was broken off
        self._sums.pop(split, None)
        self._answers.pop(split, None)

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


def macro_f1(labels_N: Tensor, predicted_N: Tensor, num_classes: int) -> Tensor:
    """The mean of the classes' F1, 2·hits / (images + predictions), over those that have either; as scikit-learn's."""
    images_K, predictions_K, hits_K = (
        torch.bincount(classes, minlength=num_classes).cpu().double()
        for classes in (labels_N, predicted_N, labels_N[labels_N == predicted_N])
    )
    is_there_K = images_K + predictions_K > 0
    return (2 * hits_K[is_there_K] / (images_K + predictions_K)[is_there_K]).mean()
