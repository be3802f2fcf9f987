"""Starts the engine that the user names, and runs a stage with it until no slot is open."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from experiments.code.own import own_folders, own_module_names
from experiments.tasks.prepare import cores
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.log import LOG
from sweeps.config import Sweep
from sweeps.engines import local, worker
from sweeps.engines.gpus import shares_of_gpus
from sweeps.engines.worker import OnTrial
from sweeps.study.reconcile import reconcile
from sweeps.study.stage import Stage

EngineName = Literal["local", "ray"]
Work = Callable[..., None]  # runs a stage's trials until no slot is open, like sweeps.engines.worker.work

_POLL = 1.0  # seconds between two checks on the trials of other commands


def warm_up_for(sweep: Sweep) -> None:
    """Starts the server that worker processes are forked from, with the user's modules that the trials need.

    Without these if they use a GPU already, which forked processes cannot share.
    """
    uses_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    local.warm_up([] if uses_gpu else own_module_names(own_folders(sweep.base.tree())))


@contextmanager
def start_engine(
    name: EngineName, sweep: Sweep, store: Store, dataset: ImageDataset | None, workers: int | None, address: str | None
) -> Iterator[tuple[Work, int]]:
    """Starts the engine for a `with` block; yields the function that runs a stage's trials, and how many at a time."""
    if name == "local":
        if address is not None:
            raise InputError("--address", address, "is only for a Ray cluster", "add --engine ray or remove --address")
        gpus = shares_of_gpus(sweep.config.resources.gpus, workers, cores())
        yield (worker.work if len(gpus) == 1 else partial(local.work, gpus=gpus)), len(gpus)
        return
    try:
        from sweeps.engines import ray
    except ModuleNotFoundError as error:
        remedy = "pip install 'lightning-workbench[ray]' -c constraints.txt"
        raise InputError("--engine", name, f"Ray is not installed: {error}", remedy) from error
    with ray.connected(sweep, store, dataset, workers=workers, address=address) as cluster:
        yield cluster.work, cluster.workers


def fill(stage: Stage, work: Work, dataset: ImageDataset | None, *, started: OnTrial, ended: OnTrial) -> None:
    """Runs trials until no slot is open and no process is running a trial."""

    def fill_slots() -> None:
        reconcile(stage)
        told: set[str] = set()
        while stage.has_open_slot() or stage.is_running():
            work(stage, dataset=dataset, started=started, ended=ended)
            if others := set(stage.running()):  # of another command: if they die, this process takes over their slots
                for line in sorted(others - told):
                    LOG.info(f"waiting for {line}")
                told |= others
                time.sleep(_POLL)
                reconcile(stage)

    stage.storage.persist(fill_slots)
