"""Makes Lightning's Trainer for a run: which of its arguments come from the config, and which the workbench decides."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint

from experiments.config import ExperimentConfig
from lightning_modules import InputError

# Fields of the config that the Trainer gets as they are.
PASSED_ON = (
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "detect_anomaly", "min_epochs"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "log_every_n_steps", "benchmark"),
    *("inference_mode", "reload_dataloaders_every_n_epochs"),
)


def make_trainer(
    config: ExperimentConfig, logger: Any = False, callbacks: Sequence[pl.Callback] = (), **changed: Any
) -> pl.Trainer:
    """Returns a Trainer, on one device. `changed`: arguments that differ from the config's.

    Raises InputError if it refuses any.
    """
    passed_on = {name: value for name in PASSED_ON if (value := getattr(config.trainer, name)) is not None}
    arguments = {
        "max_epochs": config.trainer.max_epochs,
        "accelerator": config.trainer.accelerator,
        "devices": 1,
        "plugins": [LightningEnvironment()],  # a process that torchrun or Slurm has started also works alone
        "precision": config.trainer.precision,
        "logger": logger,
        "callbacks": list(callbacks),
        "enable_checkpointing": any(isinstance(each, Checkpoint) for each in callbacks),  # as EpochEnd is
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    try:
        return pl.Trainer(**arguments | passed_on | changed)
    except (MisconfigurationException, ValueError) as error:
        reason = str(error).splitlines()[0]
        if config.trainer.strategy != "auto" and changed.get("strategy"):
            remedy = "write ddp, or leave it out"
            raise InputError("trainer.strategy", config.trainer.strategy, reason, remedy) from error
        if not isinstance(error, MisconfigurationException):
            raise
        raise InputError("trainer.accelerator", config.trainer.accelerator, reason, "try auto or cpu") from error
