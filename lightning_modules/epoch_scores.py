"""The scores of one split over one epoch: sums kept as tensors, handed over once at the epoch's end."""

import torch
from torch import Tensor

from lightning_modules.metrics import METRICS, Answers
from lightning_modules.pipeline.row_buffer import RowBuffer

# Shapes: N images, K classes, B batches.
_SUMMED_AT_ONCE = 256  # batches whose scores are added up together: a sum a batch would cost more than the scores


class EpochScores:
    """Takes batch after batch. With `keep_answers` it also holds all logits, for the metrics that need all of them."""

    def __init__(self, *, keep_answers: bool) -> None:
        self._keeps_answers = keep_answers
        self._logits, self._labels = RowBuffer(), RowBuffer()
        self._sums: Tensor | None = None  # loss, hits and images of the batches before the latest
        self._begin_batches()

    def _begin_batches(self) -> None:
        self._losses, self._hits = RowBuffer(), RowBuffer()  # of the latest batches, on the device
        self._images: list[int] = []

    def add(self, loss: Tensor, logits_NK: Tensor, labels_N: Tensor) -> None:
        """`loss`: the mean over the batch's images."""
        logits_NK = logits_NK.detach()
        if self._keeps_answers:
            self._logits.add(logits_NK)
            self._labels.add(labels_N)
        self._losses.add(loss.detach()[None])
        self._hits.add(logits_NK.argmax(dim=1) == labels_N)
        self._images.append(len(labels_N))
        if len(self._images) == _SUMMED_AT_ONCE:
            self._sum_up()

    def _sum_up(self) -> None:
        """Adds the latest batches to the epoch's sums, in double precision."""
        losses_B, hits_N = self._losses.rows, self._hits.rows
        device = torch.device("cpu") if losses_B.device.type == "mps" else losses_B.device  # mps has no float64
        images_B = torch.tensor(self._images, dtype=torch.float64).to(device, non_blocking=True)
        losses_B, hits = losses_B.to(device).double(), hits_N.sum().to(device).double()
        sums = torch.stack([losses_B @ images_B, hits, images_B.sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._begin_batches()

    @property
    def answers(self) -> Answers:
        return Answers(self._logits.rows, self._labels.rows)

    def compute(self) -> dict[str, Tensor]:
        """Every metric that can be told, by its name: means over the epoch's images; empty where no batch was seen."""
        if self._images:
            self._sum_up()
        if self._sums is None:
            return {}
        loss, hits, images = self._sums
        scores = {"loss": loss / images, "accuracy": hits / images}
        if self._keeps_answers:
            answers = self.answers
            scores |= {name: metric.compute(answers) for name, metric in METRICS.items() if not metric.is_summed}
        return scores
