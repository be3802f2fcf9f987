"""The local engine: runs trials in worker processes on this machine.

Each worker trains with one thread, so results do not depend on load. All workers share one data set in memory. They
are forked from a server process that has already imported everything, so a new worker starts at once. A worker does not
import the user's script, so a script needs no `if __name__ == "__main__":`, and a notebook can run sweeps too.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from experiments.code.kept import Code
from experiments.code.own import as_loaded
from experiments.code.scratch import shared_folder
from experiments.errors import Interrupted, StoreError
from experiments.process.interrupts import interruptible
from experiments.process.redaction import redacted_streams
from experiments.process.setup import prepare_process
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.shared import map_shared, save_shared
from lightning_modules.log import LOG
from lightning_modules.plug import search_folders, searched_folders
from sweeps.config import Sweep
from sweeps.engines import worker
from sweeps.engines.crew import PATIENCE, RECONCILED_EVERY, Crew, Event, run_crew
from sweeps.engines.gpus import VISIBLE
from sweeps.engines.worker import OnTrial
from sweeps.study.stage import Stage

_PRELOADED = ["experiments.code.watched", "sweeps.engines.preload"]
_server_has: dict[str, bytes] | None = None  # the user's modules that the fork server has; None: it does not run


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a worker process needs to start."""

    stage: type[Stage]
    store: Path
    sweep: Sweep
    data: Path | None  # the shared data set; None if each trial reads its own
    data_sha256: str
    code: Code
    environment: dict[str, str]  # the parent's now; the fork server keeps the one it started with
    folders: list[Path]  # where dotted paths start


def warm_up(own: Sequence[str] = ()) -> None:
    """Starts the fork server, which imports in the background. It ignores Ctrl-C; the parent ends the workers.

    `own`: the user's modules that trials need. All workers then have the same, even if their files are edited later.
    If this process has loaded others since an earlier sweep, or the same again, a new server is started. Raises
    InputError if that would not load what this process has.
    """
    global _server_has
    resource_tracker.ensure_running()  # started below, it would unblock SIGINT again
    files = {name: Path(str(sys.modules[name].__file__)) for name in own}
    loaded = {name: as_loaded(path) for name, path in files.items()}
    if _server_has is not None and not loaded.items() <= _server_has.items():
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        _server_has = None
    if _server_has is None:
        for name, path in files.items():
            if path.read_bytes() != loaded[name]:
                message = "was edited after it was loaded, and worker processes would load it as it is now"
                raise InputError(name, str(path), message, "load it again with importlib.reload, or restart Python")
        _server_has = loaded
    multiprocessing.get_context("forkserver").set_forkserver_preload([*_PRELOADED, *own])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _hidden_script():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(member: BaseProcess) -> None:
    """Starts a worker. If the fork server was killed, starts it first, with the same modules."""
    global _server_has
    for is_last in (False, True):
        server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        if server is not None and _has_ended(server):
            LOG.warning("the process that starts workers was killed: it is started again")
            own, _server_has = list(_server_has or ()), None
            warm_up(own)
        try:
            with _hidden_script():
                member.start()
            return
        except (EOFError, OSError):  # killed meanwhile
            if is_last:
                raise


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Hides the user's script from multiprocessing, which would run it again in each new process."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def work(
    stage: Stage, *, dataset: ImageDataset | None, gpus: Sequence[str | None], started: OnTrial, ended: OnTrial
) -> None:
    """Runs trials in several processes until no slot is open and no trial is running.

    `gpus`: for each process, the GPUs that it sees, as CUDA_VISIBLE_DEVICES names them; None: those that this one sees.
    """
    with shared_folder() as folder:
        if dataset is not None:
            save_shared(dataset, folder)
        task = _Task(
            stage=type(stage),
            store=stage.store.folder,
            sweep=stage.sweep,
            data=None if dataset is None else folder,
            data_sha256=stage.data_sha256,
            code=stage.code,
            environment=dict(os.environ),
            folders=searched_folders(),
        )
        run_crew(_Workers(task, gpus), stage, started=started, ended=ended)


class _Workers(Crew):
    """The worker processes, each with the pipe on which it reports its trials, and its GPUs."""

    def __init__(self, task: _Task, gpus: Sequence[str | None]) -> None:
        self._task = task
        self._free = list(gpus)  # of the workers that do not run
        self._context = multiprocessing.get_context("forkserver")
        self._members: dict[BaseProcess, Connection] = {}
        self._gpus: dict[BaseProcess, str | None] = {}

    def fill(self, is_wanted: bool) -> int:
        while is_wanted and self._free:
            ours, theirs = self._context.Pipe(duplex=False)
            member = self._context.Process(target=_run_worker, args=(self._task, theirs, self._free[0]))
            _start(member)
            theirs.close()
            self._members[member], self._gpus[member] = ours, self._free.pop(0)
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
            self._free.append(self._gpus.pop(member))
        return sum(member.exitcode != 0 for member in ended)

    def dismiss(self) -> None:
        for member in self._members:
            member.terminate()
        for member in self._members:
            member.join(PATIENCE)
            member.kill()


@redacted_streams()
def _run_worker(task: _Task, pipe: Connection, gpus: str | None) -> None:
    """The main function of a worker process."""
    os.environ.clear()
    os.environ.update(task.environment | ({} if gpus is None else {VISIBLE: gpus}))
    search_folders(task.folders)
    prepare_process()
    os.setpgid(0, 0)  # a process group of its own: Ctrl-C and `kill -- -GROUP` reach only the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(event: str) -> Callable[[Any], None]:
        def send(what: Any) -> None:
            try:
                pipe.send((event, what))
            except BrokenPipeError as error:  # the parent takes this worker for dead: the fork server was killed
                raise Interrupted("parent") from error

        return send

    try:
        with interruptible(), redirect_stdout(sys.stderr):  # the parent prints its result to standard output
            store = Store.open(task.store)
            store.await_server()
            dataset = None if task.data is None else map_shared(task.data)
            with task.stage.open(store, task.sweep, task.data_sha256, task.code) as stage:
                worker.work(stage, dataset=dataset, started=report("started"), ended=report("ended"))
    except Interrupted:
        sys.exit(130)
    except Exception as error:  # errors of a trial do not get here
        if not isinstance(error, StoreError):
            traceback.print_exc()
        with suppress(Interrupted):  # the parent is gone, and nobody asks any more
            report("broken")(str(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
