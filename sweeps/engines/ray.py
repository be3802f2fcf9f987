"""The Ray engine: runs trials as tasks of a Ray cluster, either a temporary one on this machine or a running one.

A task takes the next open slot, runs its trial and ends. Ray chooses a machine with the processors that a trial asks
for, and its object store keeps one copy of the data set per machine. Ray never repeats a task: a trial whose process or
machine is gone ends with outcome `died`, and its slot is open again, as with every engine.
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

from experiments.code.kept import Code
from experiments.errors import Interrupted
from experiments.process.interrupts import interruptible
from experiments.process.redaction import redacted_streams, without_credentials
from experiments.tasks.prepare import cores
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.plug import search_folders, searched_folders
from sweeps.config import Sweep
from sweeps.engines.crew import PATIENCE, RECONCILED_EVERY, Crew, Event, run_crew
from sweeps.engines.gpus import visible_gpus
from sweeps.engines.worker import OnTrial
from sweeps.study.stage import Stage
from sweeps.study.trial import run_trial

_SPARE = 100 * 2**20  # bytes of the object store beside the data set; Ray needs at least 75 MiB

_WATCHED = {"worker_process_setup_hook": "experiments.code.loading.watch"}  # before tasks import the project


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a task needs to know, except the data set, which is sent separately."""

    stage: type[Stage]
    sweep: Sweep
    store: Path
    tracking_uri: str | None  # None: the store's own database
    data_sha256: str
    code: Code
    host: str  # the host that has the store's files
    folders: list[Path]  # where dotted paths start


@dataclass(frozen=True)
class Cluster:
    """The cluster to which this process is connected. Its object store has the data set."""

    data: Any  # a reference to the data set
    workers: int  # tasks at a time

    def work(self, stage: Stage, *, dataset: ImageDataset | None, started: OnTrial, ended: OnTrial) -> None:
        """Runs trials until no slot is open and no task is running. Reports only the end of trials, not their start."""
        asked = stage.sweep.config.resources
        job = _Job(
            stage=type(stage),
            sweep=stage.sweep,
            store=stage.store.folder,
            tracking_uri=None if stage.store.is_local else stage.store.tracking_uri,
            data_sha256=stage.data_sha256,
            code=stage.code,
            host=socket.gethostname(),
            folders=searched_folders(),
        )
        task = ray.remote(num_cpus=asked.cpus, num_gpus=asked.gpus, max_retries=0)(_run_next)
        crew = _Tasks(lambda: task.remote(job, self.data), self.workers)
        run_crew(crew, stage, started=started, ended=ended)


@contextmanager
def connected(
    sweep: Sweep, store: Store, dataset: ImageDataset | None, *, workers: int | None, address: str | None
) -> Iterator[Cluster]:
    """Joins the cluster at `address` (HOST:PORT); if None, starts one with CPUs for `workers` trials for the block.

    `workers` trials run at a time; if None, as many as fit. Raises InputError if the cluster cannot be joined, if no
    machine has what a trial asks for, or if its machines cannot share the sweep's databases.
    """
    if address is None:
        workers = workers or cores()
        asked = sweep.config.resources
        _start(math.ceil(workers * asked.cpus), len(visible_gpus()) if asked.gpus else 0, dataset)
    else:
        _join(address)
    try:
        with interruptible():  # replaces the SIGTERM handler that Ray has set
            nodes = [node for node in ray.nodes() if node["Alive"]]
            room = sum(_room_for_trials(sweep, node["Resources"]) for node in nodes)
            if room == 0:
                remedy = "ask for less, or add a machine that has it"
                message = "no machine of the cluster has what a trial asks for"
                raise InputError("resources", vars(sweep.config.resources), message, remedy)
            if any(node["NodeManagerHostname"] != socket.gethostname() for node in nodes):
                _check_shared(sweep, store)
            yield Cluster(ray.put(dataset), workers or room)
    finally:
        ray.shutdown()


def _start(cpus: int, gpus: int, dataset: ImageDataset | None) -> None:
    parts = [] if dataset is None else dataset.parts.values()
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=gpus,
        object_store_memory=_SPARE + sum(part.images.nbytes + part.labels.nbytes for part in parts),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env=_WATCHED,
    )


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    remedy = "give the HOST:PORT that ray start --head printed, on a machine that has joined the cluster"
    if "://" in address or not port.isdigit():
        raise InputError("--address", address, "is not HOST:PORT", remedy)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        remedy += ", and its token: RAY_AUTH_TOKEN, or ~/.ray/auth_token (RAY_AUTH_MODE=disabled, if it has none)"
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env=_WATCHED)
    except (OSError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise InputError("--address", address, f"cannot join a Ray cluster there: {reason}", remedy) from error


def _room_for_trials(sweep: Sweep, available: dict[str, float]) -> int:
    """Returns how many trials fit into a machine at a time."""
    asked = {"CPU": sweep.config.resources.cpus, "GPU": sweep.config.resources.gpus}
    return min(int(available.get(kind, 0) / amount) for kind, amount in asked.items() if amount)


def _check_shared(sweep: Sweep, store: Store) -> None:
    """Raises InputError unless both databases are on servers, so that other hosts can reach them."""
    remedy = "set --storage postgresql://… and MLFLOW_TRACKING_URI (see docs/at_scale.md)"
    message = "the cluster has several hosts, and they cannot share SQLite files"
    if sweep.config.storage is None:
        raise InputError("storage", None, message, remedy)
    if store.tracking_uri.startswith("sqlite:"):
        raise InputError("MLFLOW_TRACKING_URI", without_credentials(store.tracking_uri), message, remedy)


def _run_next(job: _Job, dataset: ImageDataset | None) -> int | None:
    """Runs the next open slot's trial as a Ray task. Returns its number; None if no slot was open or it was stopped."""
    numbers: list[int] = []
    if job.tracking_uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = job.tracking_uri
    search_folders(job.folders)
    store = Store.open(job.store)
    if socket.gethostname() != job.host:  # this host may have joined after the sweep started
        _check_shared(job.sweep, store)

    def run_next() -> None:
        if claim := stage.claim():
            run_trial(stage, claim, dataset)
            numbers.append(claim.number)

    try:
        with redacted_streams(), interruptible():
            store.await_server()
            with job.stage.open(store, job.sweep, job.data_sha256, job.code) as stage:
                stage.storage.persist(run_next)
    except Interrupted:
        return None
    return numbers[0] if numbers else None


class _Tasks(Crew):
    """The tasks that are running or waiting for a free machine.

    We wait for futures, because ray.wait would lose the Interrupted that a signal raises inside it.
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
                yield "lost", "the cluster lost a machine"
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
