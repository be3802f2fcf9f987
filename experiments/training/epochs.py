"""Calls observers after every epoch, when the scores of the epoch are known.

All observers share one Lightning callback, because each callback costs time at every step even if it does nothing.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from experiments.errors import NonFiniteLossError, StopRun
from experiments.training.devices import send_buffers, tell, wait_for
from experiments.training.random_state import get_random_state, set_random_state


@dataclass(frozen=True)
class Epoch:
    """The epoch that has just ended."""

    number: int  # counted from 1
    step: int  # optimizer steps done since training began
    scores: dict[str, float]  # this epoch's `train/…` and `val/…`, exact
    train_seconds: float  # without validation
    trainer: pl.Trainer
    module: pl.LightningModule

    @property
    def is_last(self) -> bool:
        return self.number == self.trainer.max_epochs

    def save_checkpoint(self, path: Path) -> None:
        """Writes Lightning's checkpoint, for which it needs all processes that train together."""
        tell(self.trainer, ("save", str(path)))
        self.trainer.save_checkpoint(path)


Scores = Mapping[str, float]  # one epoch's value of each metric, plus `epoch` and `step`
Observer = Callable[[Epoch], None]  # may have a method `begin`, which receives the scores of earlier epochs


def begin(observers: Sequence[Observer], history: Sequence[Scores]) -> None:
    """Gives observers the scores of the epochs from which training resumes."""
    for observer in observers:
        if hasattr(observer, "begin"):
            observer.begin(history)


class EpochEnd(Checkpoint):
    """Calls the observers in order. It is a Checkpoint because Lightning calls those last, after scores are logged.

    `is_score`: whether a metric that was logged is a score of the epoch.

    Saves the random state in every checkpoint, which Lightning does not do. Training that resumes from a checkpoint
    then continues as if it had never stopped.
    """

    def __init__(self, observers: Sequence[Observer], is_score: Callable[[str], bool]) -> None:
        self._observers, self._is_score = observers, is_score
        self._stop: StopRun | None = None
        self._trained: float | None = None  # when the epoch's validation began
        self._random_state: dict[str, Any] | None = None  # from the checkpoint that training resumes from

    def state_dict(self) -> dict[str, Any]:
        return {"random_state": get_random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._random_state = state_dict["random_state"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._random_state is not None:
            set_random_state(self._random_state)
            # The loop has made the iterator of the data already, which drew from another state. As if it had never
            # stopped, it now makes a new one when the epoch begins.
            trainer.fit_loop._resuming_from_checkpoint = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start, self._trained = time.perf_counter(), None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait_for(pl_module.device)
        self._trained = time.perf_counter()
        send_buffers(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores: dict[str, Any] = {k: v for k, v in trainer.callback_metrics.items() if self._is_score(k)}
        epoch = Epoch(
            number=trainer.current_epoch + 1,
            step=trainer.global_step,
            scores={name: float(scores[name]) for name in sorted(scores)},
            train_seconds=(self._trained or time.perf_counter()) - self._start,
            trainer=trainer,
            module=pl_module,
        )
        try:
            for observer in self._observers:
                observer(epoch)
        except StopRun as stop:  # raised in on_fit_end: Lightning logs the epoch after this hook
            self._stop = stop
            trainer.should_stop = True
        tell(trainer, ("end", trainer.should_stop))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stop is not None:
            raise self._stop


def is_loss(name: str) -> bool:
    return name.endswith("loss")


def check_finite(epoch: Epoch) -> None:
    """An observer that ends the run if its loss is NaN or infinite."""
    for name, score in epoch.scores.items():
        if is_loss(name) and not math.isfinite(score):
            message = f"{name} is {score} after epoch {epoch.number}; try a lower optimizer.lr"
            raise NonFiniteLossError(message)
