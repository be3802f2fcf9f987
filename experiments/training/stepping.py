"""Decides how training steps are executed: how many at once (`trainer.steps_per_execution`), and whether captured."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.config import Compile, ExperimentConfig, TrainerConfig
from experiments.training.devices import trains_on_gpus
from lightning_modules.log import say_once
from lightning_modules.optimizers import ScheduleConfig

_MOST, _MOST_CAPTURED = 64, 1024  # more gains nothing
_SECONDS = 0.5  # of an execution: the progress bar moves once for each
_OF_EACH_BATCH = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_zero_grad"),
)
# Callbacks that change how Lightning itself optimizes. In chunks it does not.
_OF_AUTOMATIC_OPTIMIZATION = (StochasticWeightAveraging, GradientAccumulationScheduler)


def steps_per_execution(
    config: TrainerConfig,
    schedule: ScheduleConfig,
    callbacks: Sequence[pl.Callback],
    step_seconds: float,
    *,
    captured: bool = False,
) -> int:
    """Returns the number of steps, and says once why it is 1 although the config would allow more.

    `auto`: as many as take half a second, at most 64, or 1,024 if they are captured. `step_seconds`: what a step takes
    that is not captured.
    """
    given, most = config.steps_per_execution, _MOST_CAPTURED if captured else _MOST
    wanted = max(1, min(most, int(_SECONDS / step_seconds))) if given == "auto" else given
    if wanted > 1 and (reason := _why_one(config, schedule, callbacks)) is not None:
        say_one_by_one(reason)
        return 1
    return wanted


def may_capture(config: ExperimentConfig) -> bool:
    """Whether a step is captured as one CUDA graph, unless something needs the steps one by one."""
    trainer = config.trainer
    if trainer.steps_per_execution == 1 or trainer.processes > 1 or not trains_on_gpus(trainer):
        return False
    return not config.data.augmentation.mixing


def say_if_mixed(config: ExperimentConfig) -> None:
    """Says why a GPU executes several steps at once, but does not repeat a captured one."""
    if trains_on_gpus(config.trainer) and config.data.augmentation.mixing:
        say_once("the host launches each step's kernels: mixup and cutmix draw on the host")


def compile_network(network: torch.nn.Module, how: Compile) -> None:
    """Compiles the network by itself, where its step is not captured."""
    if how != "none":
        network.compile(mode={"default": "default", "cuda_graphs": "reduce-overhead"}[how])


def _why_one(config: TrainerConfig, schedule: ScheduleConfig, callbacks: Sequence[pl.Callback]) -> str | None:
    """Returns what needs each step of Lightning's loop; None if nothing does."""
    own = [each for each in callbacks if not type(each).__module__.startswith("experiments.")]
    for callback in own:
        name = type(callback).__name__
        if any(is_overridden(hook, callback, pl.Callback) for hook in _OF_EACH_BATCH):
            return f"the callback {name} wants every batch"
        if isinstance(callback, _OF_AUTOMATIC_OPTIMIZATION):
            return f"the callback {name} needs Lightning's automatic optimization"
    if schedule.steps_each_epoch:
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


def say_one_by_one(reason: str) -> None:
    say_once(f"steps are executed one by one (trainer.steps_per_execution 1): {reason}")
