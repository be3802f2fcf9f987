"""Computes the scores of one split over one epoch from sums kept as tensors, once at the end of the epoch."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from lightning_modules.metrics import METRICS, Answers, Metric
from lightning_modules.pipeline.across_ranks import gather_rows, sum_over_ranks
from lightning_modules.pipeline.row_buffer import RowBuffer

# Shapes: N images, K classes, B batches.
_SUMMED_AT_ONCE = 256  # batches per sum: summing after every batch would cost more than the scores themselves


class EpochScores:
    """Collects scores batch by batch. It keeps all logits if a metric needs them.

    `evaluates`: whether this is a pass over val or test, which has all metrics. `own`: metrics of the user's own.
    `is_shared`: several processes have a part of the split each; all get the scores of the whole.
    """

    def __init__(self, *, evaluates: bool, own: Sequence[Metric] = (), is_shared: bool = False) -> None:
        self._is_shared = is_shared
        every = [metric for metric in METRICS.values() if evaluates and not metric.is_summed]
        self._metrics = [*every, *own]
        self._logits, self._labels = RowBuffer(), RowBuffer()
        self._counts: list[int] = []  # the images of each batch whose logits are kept
        self._sums: Tensor | None = None  # loss, hits and images of all batches that are already summed
        self._begin_batches()

    @property
    def keeps_logits(self) -> bool:
        return bool(self._metrics)

    def _begin_batches(self) -> None:
        self._losses, self._hits = RowBuffer(), RowBuffer()  # of the batches not yet summed, on the device
        self._images: list[int] = []

    def add(self, loss: Tensor, logits_NK: Tensor, labels_N: Tensor) -> None:
        """Adds one batch. `loss`: the mean over the batch's images."""
        logits_NK = logits_NK.detach()
        if self.keeps_logits:
            self._logits.add(logits_NK)
            self._labels.add(labels_N)
            self._counts.append(len(labels_N))
        self._losses.add(loss.detach()[None])
        self._hits.add(logits_NK.argmax(dim=1) == labels_N)
        self._images.append(len(labels_N))
        if len(self._images) == _SUMMED_AT_ONCE:
            self._sum_up()

    def add_batches(
        self, losses_B: Tensor, hits_BN: Tensor, labels_BN: Tensor, logits_BNK: Tensor | None = None
    ) -> None:
        """Adds several batches of N images each. `logits_BNK`: needed only if `keeps_logits`."""
        batches, images = labels_BN.shape
        if self.keeps_logits:
            assert logits_BNK is not None
            self._logits.add(logits_BNK.flatten(0, 1))
            self._labels.add(labels_BN.flatten())
            self._counts += [images] * batches
        done = 0
        while done < batches:
            end = min(batches, done + _SUMMED_AT_ONCE - len(self._images))
            self._losses.add(losses_B[done:end])
            self._hits.add(hits_BN[done:end].flatten())
            self._images += [images] * (end - done)
            done = end
            if len(self._images) == _SUMMED_AT_ONCE:
                self._sum_up()

    def _sum_up(self) -> None:
        """Adds the batches not yet summed to the epoch's sums, in double precision."""
        losses_B, hits_N = self._losses.rows, self._hits.rows
        device = torch.device("cpu") if losses_B.device.type == "mps" else losses_B.device  # mps has no float64
        images_B = torch.tensor(self._images, dtype=torch.float64).to(device, non_blocking=True)
        losses_B, hits = losses_B.to(device).double(), hits_N.sum().to(device).double()
        sums = torch.stack([losses_B @ images_B, hits, images_B.sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._begin_batches()

    @cached_property
    def answers(self) -> Answers:
        """The answers of the epoch so far, once it has ended; of all processes, in the order of the split."""
        rows = self._logits.rows, self._labels.rows
        return Answers(*(gather_rows(each, self._counts) for each in rows) if self._is_shared else rows)

    def compute(self) -> dict[str, Tensor]:
        """Returns the available metrics by name, as means over the epoch's images; empty if there was no batch."""
        if self._images:
            self._sum_up()
        if self._sums is None:
            return {}
        loss, hits, images = sum_over_ranks(self._sums) if self._is_shared else self._sums
        scores = {"loss": loss / images, "accuracy": hits / images}
        if self._metrics:
            answers = self.answers
            scores |= {metric.name: metric.compute(answers) for metric in self._metrics}
        return scores
