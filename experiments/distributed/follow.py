"""What a process does that trains a run together with the run's own process: its part of each batch, and no record.

Such a process was started by the run's own (`together.py`), or by torchrun or Slurm as one of several alike.
"""

import experiments.code.watched  # noqa: F401  (first: it notes what is loaded from now on)

# isort: split
import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Checkpoint

from experiments.code.loading import watch
from experiments.config import ExperimentConfig
from experiments.errors import DeviceLost
from experiments.process.redaction import redacted_streams
from experiments.process.setup import prepare_process
from experiments.recipe import build
from experiments.tasks.prepare import prepare
from experiments.tracking.store import Store
from experiments.training.devices import (
    Place,
    check_devices,
    hear,
    joined,
    quiet_signals,
    send_buffers,
    shared,
    shared_arguments,
)
from experiments.training.memory import explain_out_of_memory
from experiments.training.trace import Digests
from experiments.training.trainer import make_trainer
from lightning_modules import ImageDataModule
from lightning_modules.log import LOG
from lightning_modules.plug import search_folders


class Following(Checkpoint):
    """Does at the end of each epoch what the run's own process tells. It is a Checkpoint to be called last, as there.

    `seed`: the run's. With the rank and the epoch, it decides what this process draws at random, such as dropout.
    """

    def __init__(self, seed: int, rank: int) -> None:
        self._seed, self._rank = seed, rank

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.fit_loop._resuming_from_checkpoint = False  # as in EpochEnd

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        drawn = np.random.SeedSequence([self._seed, self._rank, trainer.current_epoch]).generate_state(3)
        random.seed(int(drawn[0]))
        np.random.seed(drawn[1])
        torch.manual_seed(int(drawn[2]))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        send_buffers(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        while True:
            match hear(trainer):
                case "save", path:
                    trainer.save_checkpoint(path)
                case "end", should_stop:
                    trainer.should_stop = should_stop
                    return


def first_words(digests: Digests, checkpoint: Path | None) -> dict[str, Any]:
    """Returns what the run's own process tells the others before training: where it starts from, and from what."""
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "data": digests.data,
        "splits": dict(digests.splits),
        "code": _loaded(),
    }


def follow(config: ExperimentConfig, place: Place, cores: int, meeting: Path | None = None) -> dict[str, float]:
    """Trains with the run's own process until that ends; returns the scores of the last epoch, which are the run's.

    `meeting`: see `joined`. Raises InputError if any input is wrong, DeviceLost if the processes do not train the same.
    """
    check_devices(config.trainer, place, cores)
    # The weights to start from come from the run's own process.
    without_weights = replace(config, model=replace(config.model, weights=None))
    task = prepare(without_weights, None, _NO_STORE, local_rank=place.local_rank)
    assert isinstance(task.data, ImageDataModule)
    callbacks = [Following(config.seed, place.rank), *config.trainer.make_callbacks()]
    trainer = make_trainer(config, callbacks=callbacks, **shared_arguments(config, place, task.data))
    quiet_signals(trainer)
    _say({"ready": True})
    with joined(config.trainer, place, meeting), shared(task.data, place.share), explain_out_of_memory(config):
        told: list[Any] = [None]
        dist.broadcast_object_list(told, 0)
        _check(told[0], task.digests)
        trainer.fit(task.module, task.data, ckpt_path=told[0]["checkpoint"], weights_only=True)
    return {name: float(value) for name, value in trainer.callback_metrics.items() if task.is_score(name)}


_NO_STORE = Store(Path(), "")  # never opened
_parent: Any = None  # where the run's own process reads; None: it has not started this one


def _check(told: Mapping[str, Any], digests: Digests) -> None:
    """Raises DeviceLost if this process has read other data, or has loaded other code, than the run's own process."""
    if (told["data"], told["splits"]) != (digests.data, dict(digests.splits)):
        raise DeviceLost("the processes of this run have read different data", "give all of them the same files")
    own = _loaded()
    edited = sorted(path for path in told["code"].keys() & own.keys() if told["code"][path] != own[path])
    if edited:
        message = f"{edited[0]} was edited after the run's own process had loaded it"
        raise DeviceLost(message, "start the run again, in a new process")


def _loaded() -> dict[str, str]:
    """Returns the SHA-256 of the files that this process has loaded, as it has loaded them."""
    ran = watch().ran
    return {path: hashlib.sha256(content).hexdigest() for path, content in list(ran.items()) if content is not None}


def _say(words: Mapping[str, Any]) -> None:
    if _parent is not None:
        print(json.dumps(words), file=_parent, flush=True)


def _end_with_parent() -> None:
    """Ends this process at once when standard input ends, which happens when the run's own process ends or is done."""
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """The main function of a process that the run's own process has started; the job is a line of standard input."""
    global _parent
    prepare_process()
    LOG.setLevel(logging.ERROR)  # the run's own process says the same
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that process ends this one
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _parent = sys.stdout
    search_folders(map(Path, job["folders"]))
    try:
        with redacted_streams(), contextlib.redirect_stdout(sys.stderr):
            config = build(ExperimentConfig, job["config"])
            follow(config, Place(**job["place"]), job["cores"], Path(job["meeting"]))
    except Exception as error:
        _say({"error": " ".join(f"{type(error).__name__}: {error}".split())})
        return 1
    return 0
