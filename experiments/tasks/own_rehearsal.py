"""Tries a module of the user's own on a few batches before the run exists, and sees what it logs."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger

from experiments.config import ExperimentConfig
from experiments.results.own_model import trace
from experiments.tasks.own import Answers, Logged, is_epoch_score
from experiments.training.memory import is_out_of_memory
from experiments.training.trainer import make_trainer
from lightning_modules import InputError
from lightning_modules.log import LOG

_BATCHES = 2


class _Recorder(DummyLogger):
    """Notes the names of what is logged while training batches run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.is_within = False

    def log_metrics(self, metrics: Mapping[str, float], *args: Any, **kwargs: Any) -> None:
        if self.is_within:
            self.names |= metrics.keys() - {"epoch"}


class _Watch(pl.Callback):
    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._recorder.is_within = True

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._recorder.is_within = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._recorder.is_within = False


def rehearse(config: ExperimentConfig, module: pl.LightningModule, data: pl.LightningDataModule) -> Logged:
    """Trains `module` on two batches, validates, predicts, and loads its checkpoint. Both are of no use afterwards.

    Raises InputError if any of it fails, or if the module does not log the metric that the run needs.
    """
    path = str(config.model.module)
    recorder = _Recorder()
    every_batch = {"max_epochs": 1, "min_epochs": None, "limit_train_batches": _BATCHES, "limit_val_batches": 1}
    answers = Answers(module)
    trainer = make_trainer(config, recorder, [_Watch(recorder), answers], **every_batch, log_every_n_steps=1)
    _try(path, "fails on a batch of the data", lambda: trainer.fit(module, data))
    found = list(trainer.callback_metrics)
    scores = [name for name in found if is_epoch_score(name, found)]
    _check_monitor(config, scores)
    _check_checkpoint(path, trainer)
    if isinstance(module.example_input_array, torch.Tensor):
        _warn_of_export(module, module.example_input_array)
    return Logged(scores, recorder.names & set(scores))


def _try(path: str, what: str, part: Callable[[], Any]) -> None:
    try:
        part()
    except InputError:
        raise
    except Exception as error:  # the user's code may raise any exception
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError("model.module", path, f"{what}: {reason}", "change it, or model.module_args") from error


def _check_monitor(config: ExperimentConfig, scores: list[str]) -> None:
    if not scores:
        remedy = 'call self.log("val/loss", loss) in validation_step, or self.log("train/loss", loss) in training_step'
        raise InputError("model.module", config.model.module, "logs no metric, so that no run has a value", remedy)
    if taken := sorted({"epoch", "step", "value"} & set(scores)):
        raise InputError("model.module", config.model.module, f"logs {taken[0]!r}, a reserved name", "rename it")
    if config.trainer.monitor not in scores:
        remedy = f"choose from {', '.join(sorted(scores))}; with trainer.monitor_mode: min or max"
        raise InputError("trainer.monitor", config.trainer.monitor, "the module does not log it", remedy)


def _check_checkpoint(path: str, trainer: pl.Trainer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.ckpt"
        _try(path, "cannot be saved", lambda: trainer.save_checkpoint(checkpoint))
        try:
            torch.load(checkpoint, weights_only=True)
        except Exception as error:  # torch raises UnpicklingError, and others
            lines = [line.strip() for line in str(error).splitlines() if "GLOBAL" in line]
            message = f"its checkpoint holds more than tensors and plain values: {(lines or [str(error)])[0][:200]}"
            remedy = "save_hyperparameters(ignore=[…]), and state_dict with plain values"
            raise InputError("model.module", path, message, remedy) from error


def _warn_of_export(module: pl.LightningModule, example: torch.Tensor) -> None:
    try:
        trace(module, example)
    except Exception as error:  # torch.export and the user's code raise many kinds
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        LOG.warning(f"torch.export cannot trace forward ({reason}): no model is logged, the checkpoint has the weights")
