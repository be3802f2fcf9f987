"""Shows a run's progress: a bar on a terminal or in a notebook, elsewhere one line per epoch on standard error."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from experiments.process.progress import progress_bar
from experiments.training.epochs import Epoch
from lightning_modules.log import LOG
from lightning_modules.stepping.steps import total_steps

_SHOWN = 3  # scores of a module of the user's own
_REFRESH = 1.0  # seconds between two redraws


class EpochProgress(pl.Callback):
    """Shows epochs and the latest scores. It observes epochs; if there is a bar it is also the callback that moves it.

    Use it as a context manager: leaving the block always removes the bar.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = progress_bar(*columns, auto_refresh=False)
        self._last_drawn = 0.0
        self._scores = ""

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def has_bar(self) -> bool:
        return self._bar is not None

    @property
    def callbacks(self) -> list[pl.Callback]:
        """The callbacks to give to the Trainer: none if there is no bar, because only the bar moves at every step."""
        return [] if self._bar is None else [self]

    def __call__(self, epoch: Epoch) -> None:
        usual = [name for name in ("train/loss", "val/loss", "val/accuracy") if name in epoch.scores]
        shown = usual or list(epoch.scores)[:_SHOWN]
        self._scores = "  ".join(f"{name} {epoch.scores[name]:.4f}" for name in shown)
        if self._bar is None:
            LOG.info(f"epoch {epoch.number}/{epoch.trainer.max_epochs}  {self._scores}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._bar is not None
        self._bar.start()
        self._task = self._bar.add_task("starting", total=int(total_steps(trainer)))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if time.monotonic() - self._last_drawn > _REFRESH:
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer)

    def _draw(self, trainer: pl.Trainer) -> None:
        assert self._bar is not None
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
        text = f"epoch {epoch}/{trainer.max_epochs}  {self._scores}"
        self._bar.update(self._task, completed=trainer.global_step, description=text, refresh=True)
        self._last_drawn = time.monotonic()


@contextmanager
def showing(wanted: bool | None) -> Iterator[tuple[Sequence[EpochProgress], Sequence[pl.Callback]]]:
    """Yields the observers and the callbacks that show progress; with None only if there is a bar."""
    with EpochProgress() as progress:
        is_shown = progress.has_bar if wanted is None else wanted
        yield ([progress], progress.callbacks) if is_shown else ([], [])
