"""Trials in worker processes of this machine.

Workers train with one thread each, so that results do not depend on load; they share one data set in memory. They are
forked from a server process that has imported everything and done nothing else, so that a new one is ready at once.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.errors import Interrupted, StoreError
from experiments.process.interrupts import interruptible
from experiments.process.setup import prepare_process
from experiments.tracking.store import Store
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.shared import map_shared, save_shared
from sweeps.config import Sweep
from sweeps.engines import worker
from sweeps.engines.crew import PATIENCE, RECONCILED_EVERY, Crew, Event, lead
from sweeps.engines.worker import Told
from sweeps.study.stage import Stage


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a worker needs to begin."""

    stage: type[Stage]
    store: Path
    sweep: Sweep
    data: Path  # the shared data set
    data_sha256: str
    environment: dict[str, str]  # of now, where the server's is that of its start


def warm_up() -> None:
    """Starts the server, which imports meanwhile; a Ctrl-C is the parent's to hear, which then ends the workers."""
    resource_tracker.ensure_running()  # it would let SIGINT through again
    multiprocessing.get_context("forkserver").set_forkserver_preload(["sweeps.engines.preload"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(stage: Stage, *, dataset: ImageDataset, workers: int, started: Told, ended: Told) -> None:
    """Runs trials in `workers` processes until no slot is open and none of them is at work."""
    with tempfile.TemporaryDirectory(dir=_in_memory()) as folder:
        save_shared(dataset, Path(folder))
        task = _Task(
            stage=type(stage),
            store=stage.store.folder,
            sweep=stage.sweep,
            data=Path(folder),
            data_sha256=dataset.sha256,
            environment=dict(os.environ),
        )
        lead(_Workers(task, workers), stage, started=started, ended=ended)


def _in_memory() -> str | None:
    """A folder whose files lie in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class _Workers(Crew):
    """The worker processes there are, and the pipe on which each tells of its trials."""

    def __init__(self, task: _Task, size: int) -> None:
        self._task, self._size = task, size
        self._context = multiprocessing.get_context("forkserver")
        self._members: dict[BaseProcess, Connection] = {}

    def fill(self, is_wanted: bool) -> int:
        for _ in range(self._size - len(self._members) if is_wanted else 0):
            ours, theirs = self._context.Pipe(duplex=False)
            member = self._context.Process(target=_serve, args=(self._task, theirs))
            member.start()
            theirs.close()
            self._members[member] = ours
        return len(self._members)

    def listen(self) -> Iterator[Event]:
        ready = wait([*self._members.values(), *(member.sentinel for member in self._members)], RECONCILED_EVERY)
        for pipe in self._members.values():
            while pipe in ready and pipe.poll():
                try:
                    yield pipe.recv()
                except EOFError:  # the worker has ended
                    break

    def remove_dead(self) -> int:
        ended = [member for member in self._members if member.exitcode is not None]
        for member in ended:
            self._members.pop(member).close()
        return sum(member.exitcode != 0 for member in ended)

    def dismiss(self) -> None:
        for member in self._members:
            member.terminate()
        for member in self._members:
            member.join(PATIENCE)
            member.kill()


def _serve(task: _Task, pipe: Connection) -> None:
    """A worker's life."""
    os.environ.clear()
    os.environ.update(task.environment)
    prepare_process()
    os.setpgid(0, 0)  # apart from the parent's, whose Ctrl-C and `kill -- -GROUP` are for the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(event: str) -> Callable[[Any], None]:
        return lambda what: pipe.send((event, what))

    try:
        with interruptible(), redirect_stdout(sys.stderr):  # standard output is the result's, which the parent prints
            store = Store.open(task.store)
            store.await_server()
            dataset = map_shared(task.data)
            with task.stage.open(store, task.sweep, task.data_sha256) as stage:
                worker.work(stage, dataset=dataset, started=tell("started"), ended=tell("ended"))
    except Interrupted:
        sys.exit(130)
    except Exception as error:  # no trial's own
        if not isinstance(error, StoreError):
            traceback.print_exc()
        tell("broken")(str(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
