"""Trials as tasks of a Ray cluster: one on this machine that ends with the sweep, or one that runs already.

A task takes the next open slot, runs its trial and ends. Ray chooses where, by the processors that a trial asks for,
and hands the data set over through its object store, which holds it once a machine. Ray repeats no task: a trial whose
process or machine is gone ends as died, and its slot is open again, as under any other engine.
"""

import math
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, RayTaskError

from experiments.errors import Interrupted
from experiments.process.interrupts import interruptible
from experiments.process.redaction import without_credentials
from experiments.runner import cores
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.engines.crew import PATIENCE, RECONCILED_EVERY, Crew, Event, lead
from sweeps.engines.worker import Told
from sweeps.study.stage import Stage
from sweeps.study.trial import run_trial

_ROOM = 100 * 2**20  # bytes of the object store beside the data set; Ray wants 75 MiB at least


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a task needs to know; the data set comes beside it."""

    stage: type[Stage]
    sweep: Sweep
    store: Path
    tracking_uri: str | None  # None: the store's own database
    data_sha256: str
    host: str  # where the files of the store are


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to, with the data set in its object store."""

    data: Any  # a reference to the data set
    workers: int  # tasks at a time

    def work(self, stage: Stage, *, dataset: ImageDataset, started: Told, ended: Told) -> None:
        """Runs trials until no slot is open and no task is at work. Trials are told of when they have ended."""
        asked = stage.sweep.config.resources
        job = _Job(
            stage=type(stage),
            sweep=stage.sweep,
            store=stage.store.folder,
            tracking_uri=None if stage.store.is_local else stage.store.tracking_uri,
            data_sha256=dataset.sha256,
            host=socket.gethostname(),
        )
        task = ray.remote(num_cpus=asked.cpus, num_gpus=asked.gpus, max_retries=0)(_run_next)
        crew = _Tasks(lambda: task.remote(job, self.data), self.workers)
        lead(crew, stage, started=started, ended=ended)


@contextmanager
def connected(
    sweep: Sweep, store: Store, dataset: ImageDataset, *, workers: int | None, address: str | None
) -> Iterator[Cluster]:
    """Joins the cluster at `address`, HOST:PORT; None: starts one with CPUs for `workers` trials, until the exit.

    `workers` trials run at a time; None: as many as fit. InputError where the cluster is not to be had, where none of
    its machines has what a trial asks for, or where its machines cannot share the sweep's stores.
    """
    if address is None:
        workers = workers or cores()
        _start(math.ceil(workers * sweep.config.resources.cpus), dataset)
    else:
        _join(address)
    try:
        with interruptible():  # Ray has set a SIGTERM handler of its own
            nodes = [node for node in ray.nodes() if node["Alive"]]
            room = sum(_room_for_trials(sweep, node["Resources"]) for node in nodes)
            if room == 0:
                remedy = "ask for less, or start a machine that has it"
                message = "no machine of the cluster has what a trial asks for"
                raise InputError("resources", vars(sweep.config.resources), message, remedy)
            if any(node["NodeManagerHostname"] != socket.gethostname() for node in nodes):
                _check_shared(sweep, store)
            yield Cluster(ray.put(dataset), workers or room)
    finally:
        ray.shutdown()


def _start(cpus: int, dataset: ImageDataset) -> None:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=_ROOM + sum(part.images.nbytes + part.labels.nbytes for part in dataset.parts.values()),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    remedy = "give the HOST:PORT that ray start --head printed, on a machine that has joined the cluster"
    if "://" in address or not port.isdigit():
        raise InputError("--address", address, "is no HOST:PORT", remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        remedy += ", and its token: RAY_AUTH_TOKEN, or ~/.ray/auth_token (RAY_AUTH_MODE=disabled, if it has none)"
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise InputError("--address", address, f"no Ray cluster can be joined there: {reason}", remedy) from error


def _room_for_trials(sweep: Sweep, available: dict[str, float]) -> int:
    """How many trials fit into a machine at a time."""
    asked = {"CPU": sweep.config.resources.cpus, "GPU": sweep.config.resources.gpus}
    return min(int(available.get(kind, 0) / amount) for kind, amount in asked.items() if amount)


def _check_shared(sweep: Sweep, store: Store) -> None:
    """Raises InputError unless both databases are servers, which other hosts can reach."""
    remedy = "set --storage postgresql://… and MLFLOW_TRACKING_URI (see docs/at_scale.md)"
    message = "the cluster has several hosts, which cannot share SQLite files"
    if sweep.config.storage is None:
        raise InputError("storage", None, message, remedy)
    if store.tracking_uri.startswith("sqlite:"):
        raise InputError("MLFLOW_TRACKING_URI", without_credentials(store.tracking_uri), message, remedy)


def _run_next(job: _Job, dataset: ImageDataset) -> int | None:
    """A task: runs the trial of the next open slot. Its number; None where no slot was open, or where it is stopped."""
    numbers: list[int] = []
    if job.tracking_uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = job.tracking_uri
    store = Store.open(job.store)
    if socket.gethostname() != job.host:  # it may have joined the cluster since
        _check_shared(job.sweep, store)

    def run_next() -> None:
        if claim := stage.claim():
            run_trial(stage, claim, dataset)
            numbers.append(claim.trial.number)

    try:
        with interruptible():
            store.await_server()
            with job.stage.open(store, job.sweep, job.data_sha256) as stage:
                stage.storage.persist(run_next)
    except Interrupted:
        return None
    return numbers[0] if numbers else None


class _Tasks(Crew):
    """The tasks that run or wait for room.

    They are waited for as futures: the Interrupted of a signal that arrives within ray.wait would be lost.
    """

    def __init__(self, submit: Callable[[], Any], size: int) -> None:
        self._submit, self._size = submit, size
        self._tasks: dict[Future[int | None], Any] = {}
        self._deaths = 0

    def fill(self, is_wanted: bool) -> int:
        for _ in range(self._size - len(self._tasks) if is_wanted else 0):
            task = self._submit()
            self._tasks[task.future()] = task
        return len(self._tasks)

    def listen(self) -> Iterator[Event]:
        ended, _ = wait(self._tasks, RECONCILED_EVERY, FIRST_COMPLETED)
        for future in ended:
            del self._tasks[future]
            try:
                number = future.result()
            except RayTaskError as error:
                yield "broken", str(error.cause)
            except NodeDiedError:
                yield "lost", "a machine of the cluster is gone"
            except RayError:
                self._deaths += 1
            else:
                if number is not None:
                    yield "ended", number

    def remove_dead(self) -> int:
        deaths, self._deaths = self._deaths, 0
        return deaths

    def dismiss(self) -> None:
        for task in self._tasks.values():
            ray.cancel(task)
        _, hanging = wait(self._tasks, PATIENCE)
        for future in hanging:
            ray.cancel(self._tasks[future], force=True)
