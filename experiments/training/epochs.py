"""What happens once an epoch: observers, called when the epoch's scores are known.

One Lightning callback for all of them, since every callback costs time at every step, whether it does anything or not.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from experiments.errors import NonFiniteLossError, StopRun
from experiments.training.random_state import get_random_state, set_random_state


@dataclass(frozen=True)
class Epoch:
    """An epoch that has just ended."""

    number: int  # counted from 1
    step: int  # optimizer steps done since training began
    scores: dict[str, float]  # `train/…` and `val/…` of this epoch, exact
    train_seconds: float  # validation not counted
    trainer: pl.Trainer
    module: pl.LightningModule

    @property
    def is_last(self) -> bool:
        return self.number == self.trainer.max_epochs


Scores = Mapping[str, float]  # of one epoch, by metric; with `epoch` and `step`
Observer = Callable[[Epoch], None]  # if it has a method `begin`, it is told of the epochs of an earlier process


def begin(observers: Sequence[Observer], history: Sequence[Scores]) -> None:
    """Tells observers of the epochs that training continues from."""
    for observer in observers:
        if hasattr(observer, "begin"):
            observer.begin(history)


class EpochEnd(Checkpoint):
    """Calls observers in order. A Checkpoint, as Lightning calls those last: after the module logged its scores.

    Keeps the random state in every checkpoint, which Lightning does not, so that training goes on from one as if it
    had never stopped.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._stop: StopRun | None = None
        self._random_state: dict[str, Any] | None = None  # of the checkpoint that training goes on from

    def state_dict(self) -> dict[str, Any]:
        return {"random_state": get_random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._random_state = state_dict["random_state"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._random_state is not None:
            set_random_state(self._random_state)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._train_seconds = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores: dict[str, Any] = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(("train/", "val/"))}
        epoch = Epoch(
            number=trainer.current_epoch + 1,
            step=trainer.global_step,
            scores={name: float(scores[name]) for name in sorted(scores)},
            train_seconds=self._train_seconds,
            trainer=trainer,
            module=pl_module,
        )
        try:
            for observer in self._observers:
                observer(epoch)
        except StopRun as stop:  # Lightning logs the epoch after this hook, so the run ends only then
            self._stop = stop
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stop is not None:
            raise self._stop


def check_finite(epoch: Epoch) -> None:
    """An observer that ends a run whose loss is NaN or infinite."""
    for name in ("train/loss", "val/loss"):
        if not math.isfinite(epoch.scores[name]):
            message = f"{name} is {epoch.scores[name]} after epoch {epoch.number}; try a lower optimizer.lr"
            raise NonFiniteLossError(message)
