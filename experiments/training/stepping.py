"""Decides how many training steps Lightning's loop executes at once: `trainer.steps_per_execution`."""

from collections.abc import Sequence
from functools import cache

import pytorch_lightning as pl
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.config import TrainerConfig
from lightning_modules.log import LOG
from lightning_modules.optimizers import ScheduleConfig

_MOST = 64  # more gains nothing
_SECONDS = 0.5  # of an execution: the progress bar moves once for each
_OF_EACH_BATCH = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_zero_grad"),
)


def steps_per_execution(
    config: TrainerConfig, schedule: ScheduleConfig, callbacks: Sequence[pl.Callback], step_seconds: float
) -> int:
    """Returns the number of steps, and says once why it is 1 although the config would allow more.

    `auto`: as many as take half a second, at most 64. `step_seconds`: what a step takes.
    """
    given = config.steps_per_execution
    wanted = max(1, min(_MOST, int(_SECONDS / step_seconds))) if given == "auto" else given
    if wanted > 1 and (reason := _why_one(config, schedule, callbacks)) is not None:
        say_one_by_one(reason)
        return 1
    return wanted


def _why_one(config: TrainerConfig, schedule: ScheduleConfig, callbacks: Sequence[pl.Callback]) -> str | None:
    """Returns what needs each step of Lightning's loop; None if nothing does."""
    own = [each for each in callbacks if not type(each).__module__.startswith("experiments.")]
    for callback in own:
        if any(is_overridden(hook, callback, pl.Callback) for hook in _OF_EACH_BATCH):
            return f"the callback {type(callback).__name__} wants every batch"
    if schedule.is_own and schedule.interval == "epoch":
        return f"the schedule {schedule.kind} steps once an epoch"
    if config.processes > 1:
        return "several devices train together"
    reasons = {
        "accumulate_grad_batches": config.accumulate_grad_batches > 1,
        "limit_train_batches": config.limit_train_batches is not None,
        "profiler": config.profiler is not None,
        "detect_anomaly": config.detect_anomaly,
        "precision": config.precision != "32-true",
    }
    return next((f"trainer.{name} is set" for name, is_set in reasons.items() if is_set), None)


@cache  # the trials of a sweep have the same reason
def say_one_by_one(reason: str) -> None:
    LOG.info(f"steps are executed one by one (trainer.steps_per_execution 1): {reason}")
