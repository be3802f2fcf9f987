"""The LightningModule: the network, its loss, and the training, validation, test and predict steps."""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from lightning_modules.config import section
from lightning_modules.epoch_scores import EpochScores
from lightning_modules.losses import Loss, build_loss, check_loss, mean_loss
from lightning_modules.metrics import Metric
from lightning_modules.networks import build_network, check_network
from lightning_modules.optimizers import OptimizerConfig
from lightning_modules.own import OWN_MODULE
from lightning_modules.parameters import freeze
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.mixing import Mixing
from lightning_modules.stepping.captured import Captured
from lightning_modules.stepping.chunked import Chunked
from lightning_modules.stepping.clipping import Clip
from lightning_modules.stepping.static_step import Results
from lightning_modules.stepping.steps import set_steps_done, total_steps

# Shapes: N images, C channels, H x W pixels, K classes.
Batch = tuple[Tensor, Tensor]
ClassWeights = Literal["none", "balanced"]
MemoryFormat = Literal["auto", "channels_last", "contiguous"]


@section("model")
class ModelConfig:
    """The network and the loss it is trained with."""

    module: str | None = None
    """A LightningModule of your own, by its dotted path: it replaces the other fields of `model`, and `optimizer`."""

    module_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the module."""

    network: str = "BaselineCNN"
    """A name from lightning_modules/networks, or the dotted path of a class or function (networks/__init__.py)."""

    network_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the network."""

    weights: str | None = None
    """The weights to start from, of a run or a file: RUN, FILE.ckpt or FILE.safetensors."""

    freeze: list[str] = field(default_factory=list)
    """Patterns of the names of parameters that are not trained."""

    memory_format: MemoryFormat = "auto"
    """auto: channels_last if the network accepts it, which is faster."""

    loss: str = "cross_entropy"
    """The loss; mse: Brier score / K. Or the dotted path of a class or function (losses.py)."""

    loss_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the loss."""

    class_weights: ClassWeights = "none"
    """Weights of the classes in the training loss; balanced: an image of a class half as frequent counts twice."""

    def __post_init__(self) -> None:
        OWN_MODULE.check(self)
        check_network(self.network, self.network_args)
        check_loss(self.loss, self.loss_args)

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Returns a newly initialised network for images of `image_shape` (C, H, W) and `num_classes` classes."""
        network = build_network(self.network, self.network_args, image_shape, num_classes)
        freeze(network, self.freeze)
        return network

    def build_loss(self, num_classes: int) -> Loss | str:
        return build_loss(self.loss, self.loss_args, num_classes)

    def weigh_classes(self, labels_N: NDArray[np.int64]) -> Tensor | None:
        """Returns the class weights (K,), given the train split's labels; None if all classes have the same weight.

        `balanced` is scikit-learn's: N / (K · images of the class). The mean weight over the train split is then 1.
        """
        if self.class_weights == "none":
            return None
        weights_K = compute_class_weight("balanced", classes=np.unique(labels_N), y=labels_N)
        return torch.from_numpy(weights_K).float()


class ImageClassifier(pl.LightningModule):
    """Trains `network`, which maps float images (N, C, H, W) to logits (N, K).

    `loss`: `cross_entropy` uses the integer labels; `mse` is the mean squared error between the softmax probabilities
    and one-hot targets (Brier score / K); or a loss of your own. The metrics of each split
    (`lightning_modules/metrics.py`), and `metrics` of your own, are logged once per epoch as `{split}/loss`,
    `{split}/accuracy` and so on. Train metrics are measured while the weights change.

    `class_weights` (K,) multiply each training image's loss before the mean, as Keras's `class_weight` does (torch
    divides by the sum of the batch's weights instead of the number of images). Val and test losses are never weighted,
    so they can be compared between runs with different class weights.

    `mixing` mixes the images and labels of a training batch; train accuracy then counts each image's own label.

    `memory_format`: channels_last is faster, but some networks that call `view` need contiguous.

    `probabilities` holds the class probabilities (N, K) of the latest pass over val and over test, in image order.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        loss: Loss | str = "cross_entropy",
        class_weights: Tensor | None = None,
        optimizer: OptimizerConfig | None = None,
        metrics: Sequence[Metric] = (),
        mixing: Mixing | None = None,
        memory_format: Literal["channels_last", "contiguous"] = "channels_last",
    ) -> None:
        super().__init__()
        if isinstance(loss, str):
            check_loss(loss, {})
        self._is_contiguous = memory_format == "contiguous"
        layout = torch.contiguous_format if self._is_contiguous else torch.channels_last
        self.network = network.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's stub
        self.loss = loss
        self.register_buffer("class_weights", class_weights, persistent=False)  # the train split's, not the network's
        self.optimizer_config = optimizer or OptimizerConfig()
        self._metrics = tuple(metrics)
        self._mixing = mixing or Mixing()
        self.probabilities: dict[str, Tensor] = {}
        self._execution: Chunked | Captured | None = None  # of several steps at once
        self._resumed_at: int | None = None  # optimizer steps done by the training that this one continues
        self._scores: dict[str, EpochScores] = {}
        self._shared: Batches | None = None  # the training batches, if several processes share each of them
        for split in ("train", "val", "test"):
            self._begin_epoch(split)

    @property
    def memory_format(self) -> Literal["channels_last", "contiguous"]:
        return "contiguous" if self._is_contiguous else "channels_last"

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.network(images_NCHW.contiguous() if self._is_contiguous else images_NCHW)
        return logits_NK

    def train_in_chunks(self, clip: Clip | None) -> None:
        """From now on a training step takes a chunk of batches (stepping/chunks.py), and does the optimizer's steps."""
        self._execution = Chunked(self._train, clip)
        self.automatic_optimization = False

    def train_captured(
        self, clip: Clip | None, *, compiles: bool = False, otherwise: Callable[[], None] = lambda: None
    ) -> None:
        """Like `train_in_chunks`, for chunks of stretches; the device repeats a captured step where that is possible.

        `compiles`: the captured step is compiled first. `otherwise` is called if no step can be captured. Not for
        batches whose images are mixed.
        """
        keeps_logits = self._scores["train"].keeps_logits
        self._execution = Captured(
            self._train_loss,
            Chunked(self._train, clip),
            self._collect,
            keeps_logits=keeps_logits,
            compiles=compiles,
            otherwise=otherwise,
        )
        self.automatic_optimization = False

    @property
    def why_not_captured(self) -> str | None:
        """Why the device does not repeat a captured step, in a training that tries to; None if it does."""
        return self._execution.why_not if isinstance(self._execution, Captured) else None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if self._execution is not None:
            self._execution.run(self, batch)
            return None
        return self._train(batch, 1.0 if self._shared is None else self._shared.weight(batch_idx))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(*batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._score(*batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns class probabilities (N, K)."""
        logits_NK: Tensor = self(batch[0])
        return logits_NK.softmax(dim=1)

    def _train(self, batch: Batch, weight: float = 1.0) -> Tensor:
        """Returns the mean loss of a training batch, times `weight`. With weight 0, the scores do not count it."""
        images_NCHW, labels_N = batch
        mixed_in = None
        if self._mixing:
            images_NCHW, partners_N, share = self._mixing.apply(images_NCHW)
            mixed_in = labels_N[partners_N], 1 - share
        loss = self._score(images_NCHW, labels_N, "train", self.class_weights, mixed_in, counts=weight > 0)
        return loss if weight == 1 else loss * weight

    def _score(
        self,
        images_NCHW: Tensor,
        labels_N: Tensor,
        split: str,
        weights_K: Tensor | None = None,
        mixed_in: tuple[Tensor, float] | None = None,
        *,
        counts: bool = True,
    ) -> Tensor:
        """Returns the mean loss. `mixed_in`: other labels (N,) of the images, and their share."""
        loss, logits_NK = self._loss(images_NCHW, labels_N, weights_K)
        if mixed_in is not None:
            others_N, share = mixed_in
            loss = (1 - share) * loss + share * mean_loss(self.loss, logits_NK, others_N, weights_K)
        if counts:
            self._scores[split].add(loss, logits_NK, labels_N)
        return loss

    def _loss(self, images_NCHW: Tensor, labels_N: Tensor, weights_K: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the mean loss, and the logits."""
        logits_NK = self.forward(images_NCHW)
        return mean_loss(self.loss, logits_NK, labels_N, weights_K), logits_NK

    def _train_loss(self, images_NCHW: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        return self._loss(images_NCHW, labels_N, self.class_weights)

    def _collect(self, results: Results) -> None:
        scores = self._scores["train"]
        scores.add_batches(results.losses_T, results.hits_TN, results.labels_TN, results.logits_TNK)

    def _begin_epoch(self, split: str, loader: Any = None) -> None:
        is_shared = isinstance(loader, Batches) and loader.share.ranks > 1
        self._scores[split] = EpochScores(evaluates=split != "train", own=self._metrics, is_shared=is_shared)
        if split == "train":
            self._shared = loader if is_shared else None

    def _end_epoch(self, split: str) -> None:
        scores = self._scores[split]
        if computed := scores.compute():
            self.log_dict({f"{split}/{name}": value for name, value in computed.items()})
            if split != "train":
                self.probabilities[split] = scores.answers.probabilities_NK
        self._begin_epoch(split)  # frees the memory of the answers

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._resumed_at = checkpoint["global_step"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if isinstance(self._execution, Captured) and "optimizer_states" in checkpoint:
            checkpoint["optimizer_states"] = self._execution.saved(checkpoint["optimizer_states"])

    def on_train_start(self) -> None:
        if self._resumed_at is not None:
            set_steps_done(self.trainer, self._resumed_at)

    def on_train_end(self) -> None:
        if isinstance(self._execution, Captured):
            self._execution.end()

    def on_train_epoch_start(self) -> None:
        self._begin_epoch("train", self.trainer.train_dataloader)

    def on_validation_epoch_start(self) -> None:
        self._begin_epoch("val", self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        self._begin_epoch("test", self.trainer.test_dataloaders)

    def on_train_epoch_end(self) -> None:
        self._end_epoch("train")

    def on_validation_epoch_end(self) -> None:
        self._end_epoch("val")

    def on_test_epoch_end(self) -> None:
        self._end_epoch("test")

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_config.build(self.network)
        schedule = self.optimizer_config.build_schedule(optimizer, total_steps(self.trainer))
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.optimizer_config.schedule.how_to_step(schedule)}
