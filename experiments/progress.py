"""How far a run is: a bar on a terminal, one plain line an epoch elsewhere; both on standard error."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_REFRESH = 1.0  # seconds between two redraws


class EpochProgress(Checkpoint):
    """Shows epochs, steps and the latest scores; a Checkpoint, because those know an epoch's scores at its end."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, auto_refresh=False)
        self._last_drawn = 0.0
        self._scores = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=int(trainer.estimated_stepping_batches))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if time.monotonic() - self._last_drawn > _REFRESH:
            self._draw(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores = {name: float(trainer.callback_metrics[name]) for name in ("train/loss", "val/loss", "val/accuracy")}
        self._scores = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        if self._bar is None:
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {self._scores}", file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _draw(self, trainer: pl.Trainer) -> None:
        if self._bar is None:
            return
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
        text = f"epoch {epoch}/{trainer.max_epochs}  {self._scores}"
        self._bar.update(self._task, completed=trainer.global_step, description=text, refresh=True)
        self._last_drawn = time.monotonic()
