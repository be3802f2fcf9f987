"""What a run would do: its resolved config, its data, its network, and its learning rate in each epoch."""

import logging
import math
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from experiments.config import ExperimentConfig
from experiments.process.setup import prepare_process
from experiments.tasks.own import OwnTask
from experiments.tasks.prepare import cores, is_file_of_weights, prepare
from experiments.tasks.task import Task
from experiments.tracking.store import Store
from experiments.training.devices import check_devices, place_of, with_threads
from lightning_modules import ImageClassifier, ImageDataModule, InputError
from lightning_modules.log import LOG

_MOST_RATES = 1000  # epochs whose learning rate is told
_MOST_STEPS = 200_000  # of a schedule of torch or of the user's: some seconds


@dataclass(frozen=True)
class EpochRate:
    """The learning rate at the first and at the last step of an epoch, of the parameters that are in no group."""

    epoch: int  # from 1
    first: float
    last: float


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What was found without training."""

    config: dict[str, Any]  # complete, nested as in a recipe
    recipe: str  # the same as YAML
    splits: dict[str, dict[str, Any]]  # split → count; of images also shape (H, W, C), dtype, classes, dropped
    findings: list[dict[str, Any]]  # the faults of the data
    parameters: int  # of the network
    trained_parameters: int
    steps_per_epoch: int | None  # None: not known before the run
    memory_format: str | None  # of the workbench's classifier
    drops_single: bool  # whether a last training batch of one image is left out
    warnings: list[str]  # said while the parts were tried
    learning_rates: list[EpochRate]  # of all epochs, or of some at equal distances
    rates_unknown: str  # why there are no learning rates; empty if there are

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def dry_run(config: ExperimentConfig, folder: str | Path) -> DryRun:
    """Prepares a run as far as its first step. `folder`: the store, which is read only if `model.weights` is a run.

    Raises InputError if any input is wrong, as the run itself would.
    """
    prepare_process()
    place = place_of(config.trainer)
    config = with_threads(config, place, cores())
    check_devices(config.trainer, place, cores())
    heard = _Heard()
    LOG.addHandler(heard)
    try:
        task = prepare(config, None, _store_to_read(config, Path(folder)), reads_test=True)
    finally:
        LOG.removeHandler(heard)
    images = task.data if isinstance(task.data, ImageDataModule) else None
    classifier = task.module if isinstance(task.module, ImageClassifier) else None
    steps = _steps_per_epoch(config, images) if images else None
    rates: list[EpochRate] = []
    unknown = "model.module makes its own optimizers"
    if classifier and steps:
        rates, unknown = _learning_rates(config, classifier, steps)
    sizes = [(weights.numel(), weights.requires_grad) for weights in task.module.parameters()]
    return DryRun(
        config=config.tree(),
        recipe=config.to_yaml(),
        splits=images.report.as_dict()["splits"] if images else _counts(task),
        findings=images.report.as_dict()["findings"] if images else [],
        parameters=sum(size for size, _ in sizes),
        trained_parameters=sum(size for size, is_trained in sizes if is_trained),
        steps_per_epoch=steps,
        memory_format=None if classifier is None else classifier.memory_format,
        drops_single=images is not None and images.drops_single,
        warnings=heard.messages,
        learning_rates=rates,
        rates_unknown=unknown,
    )


def _counts(task: Task) -> dict[str, dict[str, Any]]:
    known = task.counts if isinstance(task, OwnTask) else {}
    return {split: {"count": known.get(split)} for split in task.digests.splits}


class _Heard(logging.Handler):
    """Keeps the warnings that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _store_to_read(config: ExperimentConfig, folder: Path) -> Store:
    """Returns the store with the weights that the run would start from; one that is never opened if they are a file."""
    weights = config.model.weights
    if weights is None or is_file_of_weights(weights):
        return Store(folder, "")
    if not Store.is_there(folder):
        remedy = "give a .ckpt or a .safetensors file, or the --store that has the run"
        raise InputError("model.weights", weights, f"there are no runs in {folder}", remedy)
    return Store.open(folder)


def _steps_per_epoch(config: ExperimentConfig, data: ImageDataModule) -> int:
    """Returns the number of optimizer steps of an epoch."""
    batches = len(data.train_dataloader())
    match config.trainer.limit_train_batches:
        case int(most):
            batches = min(batches, most)
        case float(share):
            batches = int(batches * share)
    return math.ceil(batches / config.trainer.accumulate_grad_batches)


def _learning_rates(config: ExperimentConfig, classifier: ImageClassifier, steps: int) -> tuple[list[EpochRate], str]:
    """Returns the learning rate of each epoch, or why it is not known before the run."""
    optimizer = config.optimizer.build(classifier.network)
    epochs = config.trainer.max_epochs
    schedule = config.optimizer.build_schedule(optimizer, steps * epochs)
    if isinstance(schedule, ReduceLROnPlateau):
        return [], "the schedule waits for a plateau of val/loss"
    if schedule is None:
        rate = optimizer.param_groups[0]["lr"]
        return [EpochRate(epoch, rate, rate) for epoch in _spread(epochs)], ""
    if not config.optimizer.schedule.is_own:
        factor = partial(config.optimizer.schedule.factor, total_steps=steps * epochs)
        peak = optimizer.param_groups[0]["initial_lr"]
        ends = [(epoch, (epoch - 1) * steps, epoch * steps - 1) for epoch in _spread(epochs)]
        return [EpochRate(epoch, peak * factor(first), peak * factor(last)) for epoch, first, last in ends], ""
    if steps * epochs > _MOST_STEPS:
        return [], f"the schedule would be tried for all {steps * epochs:,} steps, more than {_MOST_STEPS:,}"
    is_by_step = config.optimizer.schedule.how_to_step(schedule)["interval"] == "step"
    rates, wanted = [], set(_spread(epochs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimizer comes before those of the schedule
        for epoch in range(1, epochs + 1):
            seen = []
            for _ in range(steps):
                seen.append(float(torch.as_tensor(optimizer.param_groups[0]["lr"])))
                if is_by_step:
                    schedule.step()
            if not is_by_step:
                schedule.step()
            if epoch in wanted:
                rates.append(EpochRate(epoch, seen[0], seen[-1]))
    return rates, ""


def _spread(epochs: int) -> list[int]:
    """Returns all epochs, from 1, or some at equal distances with the first and the last."""
    count = min(epochs, _MOST_RATES)
    return [1 + round(place * (epochs - 1) / max(1, count - 1)) for place in range(count)]
