"""Starts, resumes and ends runs, and closes runs whose process is dead.

Starting or resuming a run needs the tracking server. `Store.persist` waits until the server answers.
"""

import getpass
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from mlflow.entities import Run

from experiments.errors import Interrupted, Pruned, TakenOver
from experiments.tracking.ownership import dead_runs, is_abandoned, owned, owner_of
from experiments.tracking.spool import check_delivered, deliver, write
from experiments.tracking.store import Store, store_failure
from experiments.tracking.tracked_run import Outcome, TrackedRun, end_of_run
from lightning_modules.log import LOG

_CREATION = "workbench.creation"  # a tag that requests for one run share

RunKind = Literal[
    "train", "sweep", "trial", "finalist", "repeats", "repeat", "reproduction", "comparison", "evaluation"
]


def create_run(store: Store, *, experiment: str, name: str, kind: RunKind, tags: Mapping[str, str] = {}) -> str:
    """Creates a run that is RUNNING and owned by this process; returns its id, for `open_run`."""
    all_tags = {
        "workbench.kind": kind,
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        **tags,
    }
    if store.is_served:
        all_tags[_CREATION] = secrets.token_hex(8)

    def create() -> Run:
        experiment_id = store.experiment_id(experiment)
        return store.client.create_run(experiment_id, run_name=name, tags=owned(store) | all_tags)

    run = store.persist(create)
    if store.is_served:
        store.persist(lambda: _delete_doubles(store, run, all_tags[_CREATION]))
    return str(run.info.run_id)


def _delete_doubles(store: Store, run: Run, creation: str) -> None:
    """Deletes what a server made of earlier requests for this run, if their answers were lost."""
    same = store.client.search_runs([run.info.experiment_id], f"tags.`{_CREATION}` = '{creation}'")
    for double in same:
        if double.info.run_id != run.info.run_id:
            store.client.delete_run(double.info.run_id)


@contextmanager
def reopen_run(store: Store, run_id: str) -> Iterator[TrackedRun]:
    """Opens a run that ended or whose process died. This process becomes its owner; the old outcome is deleted.

    The run of a sweep may be open in several processes, of which one is its owner. Raises TakenOver if any other run
    has just been opened by another process.
    """

    def reopen() -> None:
        deliver(store, run_id)
        check_delivered(store, run_id)
        with store.lock("owner"):
            keep_open(store, run_id)

    store.persist(reopen)
    with open_run(store, run_id) as run:
        store.persist(run.restore)
        yield run


def keep_open(store: Store, run_id: str) -> None:
    """If a run has ended, or its owner is gone, makes this process its owner. Does nothing if its owner lives."""
    client = store.client
    run = client.get_run(run_id)
    if run.info.status == "RUNNING" and not is_abandoned(store, run):
        return
    for tag, text in owned(store).items():
        client.set_tag(run_id, tag, text)
    client.update_run(run_id, status="RUNNING")
    for tag in {"workbench.outcome", "workbench.error"} & run.data.tags.keys():
        client.delete_tag(run_id, tag)


@contextmanager
def open_run(store: Store, run_id: str) -> Iterator[TrackedRun]:
    """Opens a new run for writing, and closes it with the outcome of the block.

    The outcome is finished if the block ends normally; pruned for Pruned; died for TakenOver; interrupted for an
    interrupt or a store failure; failed for any other exception.
    """
    run: TrackedRun | None = None

    def close(outcome: Outcome, error: str = "") -> None:
        if run is None:
            close_run(store, run_id, outcome, error)
        else:
            run.close(outcome, error)

    try:
        run = TrackedRun(store, run_id)
        yield run
    except Pruned:
        close("pruned")
        raise
    except TakenOver as error:
        with suppress(TakenOver):
            close("died", str(error))
        raise
    except (Interrupted, KeyboardInterrupt):
        close("interrupted")
        if run is not None and run.tags.get("workbench.kind") == "train":
            LOG.info(f"to resume it: {store.command('train', '--resume', run_id[:8])}")
        raise
    except BaseException as error:
        # A full or unreachable store is not the run's fault: the run can be resumed once that is fixed.
        close("interrupted" if store_failure(error) else "failed", f"{type(error).__name__}: {error}")
        raise
    close("finished")


def close_dead_runs(store: Store) -> list[str]:
    """Closes every RUNNING run whose process is gone, with outcome died; returns their ids.

    Delivers the spool first, because it may hold the real outcome of some of these runs.
    """
    deliver(store)
    closed = []
    for run in dead_runs(store):
        owner = owner_of(run)
        close_run(store, run.info.run_id, "died", f"{owner.shown if owner else 'its process'} is gone")
        closed.append(run.info.run_id)
    return closed


def close_run(store: Store, run_id: str, outcome: Outcome, error: str = "") -> None:
    """Sets a run's outcome and status, and changes nothing else."""
    write(store, run_id, end_of_run(outcome, error))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name on this system, as in some containers
        return "unknown"
