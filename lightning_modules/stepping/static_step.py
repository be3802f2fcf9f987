"""A training step whose batches, rates and results lie in tensors at fixed places, so that a device can repeat it.

Nothing in it depends on a number of the host: which batch and which rate it takes, a counter on the device decides.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.stepping.clipping import Clip
from lightning_modules.stepping.device_optimizer import DeviceOptimizer
from lightning_modules.stepping.stretch import Stretch

# Shapes: T steps, N images of a batch, C channels, H x W pixels, K classes.
LossOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of a batch of images and its labels: mean loss, logits


@dataclass(frozen=True)
class Results:
    """What T steps have found. `logits_TNK`: None unless they are kept."""

    losses_T: Tensor
    hits_TN: Tensor  # whether the class with the highest logit is the label
    labels_TN: Tensor
    logits_TNK: Tensor | None


class StaticStep:
    """`loss_of` is captured, and may be compiled; `plain_loss_of`, the same uncompiled, is for a short batch."""

    def __init__(
        self,
        loss_of: LossOf,
        plain_loss_of: LossOf,
        optimizer: DeviceOptimizer,
        clip: Clip | None,
        like: Stretch,
        *,
        keeps_logits: bool,
    ) -> None:
        self._loss_of, self._plain_loss_of = loss_of, plain_loss_of
        self.optimizer, self._clip, self._keeps_logits = optimizer, clip, keeps_logits
        self.steps, self.batch_size = like.most, like.batch_size
        shape = (self.steps, self.batch_size)
        self._images_TNHWC = like.images_NHWC.new_zeros(*shape, *like.images_NHWC.shape[1:])
        self._labels_TN = like.labels_N.new_zeros(*shape)
        device = like.labels_N.device
        self._counter_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._numbers_T = torch.arange(self.steps, device=device)
        self._losses, self._hits, self._logits = _Table(self.steps), _Table(self.steps), _Table(self.steps)

    def fits(self, stretch: Stretch) -> bool:
        """Whether the step can take the stretch's whole batches."""
        images = self._images_TNHWC
        same = images.shape[2:] == stretch.images_NHWC.shape[1:] and images.dtype == stretch.images_NHWC.dtype
        return same and self.batch_size == stretch.batch_size and self.steps >= stretch.whole

    def load(self, stretch: Stretch, rates_TG: list[list[float]]) -> None:
        """Makes the next steps take the first batches of the stretch, by these rates."""
        steps, images = len(rates_TG), len(rates_TG) * self.batch_size
        for target, source in ((self._images_TNHWC, stretch.images_NHWC), (self._labels_TN, stretch.labels_N)):
            target[:steps].copy_(source[:images].view_as(target[:steps]))
        self.optimizer.set_rates(rates_TG)
        self.restart()

    def restart(self) -> None:
        """Makes the next step take the first batch again."""
        self._counter_1.zero_()

    def __call__(self) -> None:
        images_NHWC = self._images_TNHWC.index_select(0, self._counter_1)[0]
        labels_N = self._labels_TN.index_select(0, self._counter_1)[0]
        loss, logits_NK = self._take(self._loss_of, images_NHWC, labels_N)
        is_row_T = self._numbers_T == self._counter_1
        self._losses.write(is_row_T, loss)
        self._hits.write(is_row_T, logits_NK.argmax(dim=1) == labels_N)
        if self._keeps_logits:
            self._logits.write(is_row_T, logits_NK)
        self._counter_1.add_(1)

    def results(self, steps: int) -> Results:
        """Returns what the latest steps have found, since `load`. The next ones overwrite it."""
        logits_TNK = self._logits.rows(steps) if self._keeps_logits else None
        return Results(self._losses.rows(steps), self._hits.rows(steps), self._labels_TN[:steps], logits_TNK)

    def take_short(self, images_NHWC: Tensor, labels_N: Tensor, rates_G: list[float]) -> Results:
        """Takes a step with a batch of any size, eagerly."""
        self.optimizer.set_rates([rates_G])
        self.restart()
        loss, logits_NK = self._take(self._plain_loss_of, images_NHWC, labels_N)
        hits_N = logits_NK.argmax(dim=1) == labels_N
        return Results(loss[None], hits_N[None], labels_N[None], logits_NK[None] if self._keeps_logits else None)

    def _take(self, loss_of: LossOf, images_NHWC: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
        optimizer = self.optimizer.optimizer
        optimizer.zero_grad(set_to_none=True)  # a captured backward pass puts the gradients at the same places
        loss, logits_NK = loss_of(images_NHWC, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            self._clip([parameter for group in optimizer.param_groups for parameter in group["params"]])
        self.optimizer.step(self._counter_1)
        return loss.detach(), logits_NK.detach()


class _Table:
    """One row a step. The first row that is written decides shape and type."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._rows: Tensor | None = None

    def write(self, is_row_T: Tensor, value: Tensor) -> None:
        """Writes the row for which `is_row_T` is true. Unlike writing by index, this is one deterministic kernel."""
        if self._rows is None:
            self._rows = value.new_zeros(self._steps, *value.shape)
        torch.where(is_row_T.view(-1, *[1] * value.dim()), value, self._rows, out=self._rows)

    def rows(self, steps: int) -> Tensor:
        assert self._rows is not None
        return self._rows[:steps]
