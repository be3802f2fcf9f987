"""Runs a recorded configuration once; `workbench reproduce` starts this module in the scratch checkout.

It reads the job as one line of JSON from standard input, and writes the result as one line to standard output. This
module belongs to the recorded code, its caller to today's code: `Job` and the result may only gain fields.
"""

import experiments.code.watched  # noqa: F401  (first: it notes what is loaded from now on)

# isort: split
import contextlib
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from experiments.code.snapshot import first_snapshot
from experiments.config import ExperimentConfig
from experiments.errors import Interrupted
from experiments.process.redaction import redacted_streams
from experiments.process.setup import prepare_process
from experiments.recipe import build
from experiments.runner import Role, run_as
from experiments.tracking.store import Store
from experiments.training.epochs import Epoch
from experiments.training.progress import EpochProgress
from lightning_modules import InputError


@dataclass(frozen=True, kw_only=True)
class Job:
    """The run to repeat, and the number of epochs."""

    config: dict[str, Any]  # the fields of an ExperimentConfig
    store: str  # the folder of the store for the new run
    name: str
    reproduces: str  # the id of the recorded run
    epochs: int  # training stops after this many epochs, even if the configuration has more
    read_test: bool
    deterministic: bool = False  # use torch's deterministic algorithms even if the configuration does not


class _Deterministic(pl.Callback):
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.use_deterministic_algorithms(True, warn_only=True)


def rerun(job: Job) -> dict[str, Any]:
    """Runs the job; returns `run_id`, `outcome` and `error` of the new run."""

    def stop_early(epoch: Epoch) -> None:
        epoch.trainer.should_stop = epoch.number >= job.epochs

    tags = {"workbench.reproduces": job.reproduces}
    role = Role(name=job.name, kind="reproduction", tags=tags, read_test=job.read_test)
    with EpochProgress() as progress:
        result = run_as(
            role,
            build(ExperimentConfig, job.config),
            Store.open(job.store),
            observers=[progress, stop_early],
            callbacks=[*progress.callbacks, *([_Deterministic()] if job.deterministic else [])],
        )
    return {"run_id": result.run_id, "outcome": result.outcome, "error": result.error}


def _end_with_parent() -> None:
    """Stops this process when standard input ends, which happens when the parent ends for any reason."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def answer(job: Job) -> dict[str, Any]:
    """Returns the result of `rerun`. If it raises, returns `error`, and for bad input `field`, `value` and `remedy`."""
    try:
        return rerun(job)
    except InputError as error:
        return {"error": error.message, "field": error.field, "value": error.value, "remedy": error.remedy}
    except Exception as error:  # the recorded code may raise anything
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> int:
    first_snapshot()
    prepare_process()
    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with redacted_streams(), contextlib.redirect_stdout(sys.stderr):
            result = answer(job)
    except (Interrupted, KeyboardInterrupt):
        return 130
    print(json.dumps(result, default=str), flush=True)
    return 0
