"""Counts the optimizer steps of a training, however they are executed.

Lightning counts the steps of its own loop, in one of two counters: one for its own optimization, one for that of the
module. Here both are kept equal to the optimizer steps, so that training in chunks, and step by step, can follow each
other.
"""

from typing import Any

import pytorch_lightning as pl

from lightning_modules.stepping.chunks import Chunks


def total_steps(trainer: pl.Trainer) -> float:
    """Returns the optimizer steps of the whole training; infinite if it has no fixed end."""
    estimated = trainer.estimated_stepping_batches  # this also makes the loader
    loader = trainer.train_dataloader
    if isinstance(loader, Chunks):
        return len(loader.batches) * float(trainer.max_epochs or 0)
    return float(estimated)


def set_steps_done(trainer: pl.Trainer, steps: int) -> None:
    """Sets the number of optimizer steps done, which is `trainer.global_step`."""
    loop = trainer.fit_loop.epoch_loop
    for counter in _counters(loop):
        counter.ready = counter.completed = steps


def add_steps_done(trainer: pl.Trainer, steps: int) -> None:
    """Counts steps that the module has done itself, within a step of Lightning's loop."""
    done = trainer.global_step + steps
    set_steps_done(trainer, done)
    # The step of what callbacks log. Lightning's loop adds 1 for its own step, of which a chunk is one.
    trainer.fit_loop.epoch_loop._batches_that_stepped = done - 1


def _counters(loop: Any) -> tuple[Any, Any]:
    by_lightning = loop.automatic_optimization.optim_progress.optimizer.step.total
    return by_lightning, loop.manual_optimization.optim_step_progress.total
