"""Starts the processes that train a run together with this one, and trains with them.

They are new Python processes, not forks: this one has open databases and threads. They end when this one ends, for
whatever reason; if one of them ends too early, training here ends with DeviceLost.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from experiments.code.scratch import shared_folder
from experiments.config import ExperimentConfig
from experiments.distributed.follow import first_words
from experiments.errors import DeviceLost
from experiments.process.interrupts import interruptible, uninterrupted
from experiments.tasks.task import Task
from experiments.training.devices import (
    Place,
    check_devices,
    is_sharded,
    joined,
    quiet_signals,
    shared,
    shared_arguments,
)
from experiments.training.trainer import make_trainer
from lightning_modules import ImageDataModule
from lightning_modules.plug import searched_folders

# `-P` and the path: the processes import what this one does, wherever it was started.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); import atexit, gc; gc.set_threshold(100_000); "
    "atexit.register(gc.freeze); from experiments.distributed.follow import main; sys.exit(main())"
)
_LOOK = 1.0  # seconds between two looks at processes that get ready
_GRACE = 0.5  # seconds in which a signal may end a step by itself
_LAST_WORDS = 5.0  # seconds that a process has to end, once its connection has ended
_PATIENCE = 20.0  # seconds that the processes have to end after training


class _Process:
    """One of the other processes, and what it has said so far."""

    def __init__(self, job: dict[str, Any], place: Place) -> None:
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path)]
        environment = os.environ | {"LOCAL_RANK": str(place.local_rank)}  # Lightning: only rank 0 prints
        self._child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C reaches the run's own process alone
        )
        self.rank = place.rank
        self.is_ready = False
        self._error = ""
        self._text = b""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already
            self._child.stdin.write(json.dumps(job | {"place": asdict(place)}).encode() + b"\n")
            self._child.stdin.flush()

    def fileno(self) -> int:
        assert self._child.stdout is not None
        return self._child.stdout.fileno()

    def listen(self) -> bool:
        """Reads what the process has said; False if it says no more. Waits if there is nothing yet."""
        text = os.read(self.fileno(), 65_536)
        *lines, self._text = (self._text + text).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self.is_ready |= "ready" in said
            self._error = said.get("error", self._error)
        return bool(text)

    def has_ended(self, timeout: float = 0.0) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout)
            return True
        return False

    def why(self) -> str:
        """Returns why the process has ended."""
        while self.listen():
            pass
        if self._error:
            return self._error
        code = self._child.returncode
        return f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        """Ends the process, if it still runs."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._child.wait()


class Together:
    """The processes that train with this one; none of them here if torchrun or Slurm has started all."""

    def __init__(self, place: Place, others: Sequence[_Process], meeting: Path | None) -> None:
        self._place, self._others, self._meeting = place, others, meeting

    def check(self, task: Task) -> None:
        """Raises InputError if the processes cannot share the task."""
        assert isinstance(task.data, ImageDataModule)
        with shared(task.data, self._place.share):
            task.data.train_dataloader()
            task.data.val_dataloader()
        make_trainer(task.config, **shared_arguments(task.config, self._place, task.data))

    def fit(
        self, task: Task, logger: Any, callbacks: Sequence[pl.Callback], checkpoint: Path | None, **more: Any
    ) -> None:
        """Trains the task with the others, from `checkpoint` if there is one. `more`: arguments of the Trainer."""
        config, data = task.config, task.data
        assert isinstance(data, ImageDataModule)
        trainer = make_trainer(config, logger, callbacks, **shared_arguments(config, self._place, data), **more)
        quiet_signals(trainer)
        self._await_ready()
        with self._ended_by_signals(), self._explained():
            with joined(config.trainer, self._place, self._meeting), shared(data, self._place.share):
                dist.broadcast_object_list([first_words(task.digests, checkpoint)], 0)
                trainer.fit(task.module, data, ckpt_path=checkpoint, weights_only=True)
            for other in self._others:
                other.has_ended(_PATIENCE)

    def _await_ready(self) -> None:
        """Waits until the others have read their data. Raises DeviceLost if one ends instead."""
        with selectors.DefaultSelector() as selector:
            for other in self._others:
                selector.register(other, selectors.EVENT_READ, other)
            while not all(other.is_ready for other in self._others):
                for key, _ in selector.select(_LOOK):
                    said: _Process = key.data
                    if not said.listen():
                        said.has_ended(_LAST_WORDS)
                        raise _lost(said)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the error of a connection into one that says which process has ended, and why."""
        try:
            yield
        except RuntimeError as error:
            deadline = time.monotonic() + _LAST_WORDS
            if self._others and not isinstance(error, dist.DistBackendError) and "onnection" not in str(error):
                deadline = 0.0  # an error of this process
            for other in self._others:
                if other.has_ended(max(0.0, deadline - time.monotonic())):
                    raise _lost(other) from error
            if not self._others and "onnection closed" in str(error):
                raise DeviceLost("another process of this run has ended", "see what it printed") from error
            raise

    @contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """Lets Ctrl-C and SIGTERM end the block although it waits for the others, one of which may be stopped.

        Python calls a handler between two steps of its own, and not while a library waits. So a thread that hears of
        the signal ends the others, which ends the wait.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard, told = os.pipe()
        os.set_blocking(told, False)
        before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._end_after_signal, args=(heard,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with uninterrupted():
                signal.set_wakeup_fd(before)
                os.close(told)
                thread.join()
                os.close(heard)

    def _end_after_signal(self, heard: int) -> None:
        while signals := os.read(heard, 64):
            if {signal.SIGINT, signal.SIGTERM} & set(signals):
                time.sleep(_GRACE)
                for other in self._others:
                    other.kill()


def _lost(other: _Process) -> DeviceLost:
    message = f"the process of device {other.rank} ended too early: {other.why()}"
    return DeviceLost(message, "fix the cause, then resume the run, or start it again")


@contextmanager
def together(config: ExperimentConfig, place: Place, cores: int) -> Iterator[Together | None]:
    """Starts the other processes of a run for the block, unless torchrun or Slurm has; yields None if there are none.

    Raises InputError if this machine lacks what they need.
    """
    check_devices(config.trainer, place, cores)
    if place.processes == 1 and not is_sharded(config.trainer.strategy):
        yield None
        return
    if place.launcher != "workbench":
        yield Together(place, [], None)
        return
    with interruptible(), shared_folder() as folder:
        meeting = folder / "meeting"
        job = {
            "config": config.tree(),
            "folders": [str(path) for path in searched_folders()],
            "cores": cores,
            "meeting": str(meeting),
        }
        others: list[_Process] = []
        try:
            for rank in range(1, place.processes):
                others.append(_Process(job, replace(place, rank=rank, local_rank=rank)))
            yield Together(place, others, meeting)
        finally:
            with uninterrupted():
                for other in others:
                    other.close()
