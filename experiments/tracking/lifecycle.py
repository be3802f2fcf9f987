"""A run begins, is continued, and ends; runs whose process is gone are closed.

To begin a run, or to continue one, needs the tracking server, which is waited for (`Store.persist`).
"""

import getpass
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from experiments.errors import Interrupted, Pruned, TakenOver
from experiments.process.owner import Owner
from experiments.tracking.spool import deliver, write
from experiments.tracking.store import Store, store_failure
from experiments.tracking.tracked_run import Outcome, TrackedRun, end_of_run

RunKind = Literal["train", "sweep", "trial", "finalist", "reproduction", "comparison"]


def create_run(store: Store, *, experiment: str, name: str, kind: RunKind, tags: Mapping[str, str] = {}) -> str:
    """Makes a run of this process, RUNNING from now on; its id, for `open_run`."""
    all_tags = {
        "workbench.kind": kind,
        "workbench.owner": str(Owner.current()),
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        **tags,
    }
    run = store.persist(lambda: store.client.create_run(store.experiment_id(experiment), run_name=name, tags=all_tags))
    return str(run.info.run_id)


@contextmanager
def reopen_run(store: Store, run_id: str) -> Iterator[TrackedRun]:
    """Opens a run that ended, or whose process died: it is this process's from now on. How it ended is forgotten."""
    client = store.client

    def reopen() -> None:
        deliver(store, run_id)
        client.set_tag(run_id, "workbench.owner", str(Owner.current()))
        client.update_run(run_id, status="RUNNING")
        for tag in {"workbench.outcome", "workbench.error"} & client.get_run(run_id).data.tags.keys():
            client.delete_tag(run_id, tag)

    store.persist(reopen)
    with open_run(store, run_id) as run:
        store.persist(run.take_up)
        yield run


@contextmanager
def open_run(store: Store, run_id: str) -> Iterator[TrackedRun]:
    """Opens a run just made for writing, and closes it with the outcome of the block.

    The block's end means finished; Pruned, TakenOver and an interrupt what they say; a failure of the store
    interrupted; any other exception failed.
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
        close("died", str(error))
        raise
    except (Interrupted, KeyboardInterrupt):
        close("interrupted")
        raise
    except BaseException as error:
        # A store that is full or away says nothing about the run: it may go on once that is mended.
        close("interrupted" if store_failure(error) else "failed", f"{type(error).__name__}: {error}")
        raise
    close("finished")


def close_dead_runs(store: Store) -> list[str]:
    """Closes as died every run that is RUNNING while its process on this host is gone; their ids.

    Before that, what waits in the spool is delivered: how some of them ended may be there.
    """
    deliver(store)
    closed = []
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    for run in store.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000):
        owner = Owner.parse(run.data.tags.get("workbench.owner", ""))
        if owner is not None and owner.is_gone():
            close_run(store, run.info.run_id, "died", f"its process ({owner}) was gone")
            closed.append(run.info.run_id)
    return closed


def close_run(store: Store, run_id: str, outcome: Outcome, error: str = "") -> None:
    """Sets a run's outcome and status; nothing else of it is touched."""
    write(store, run_id, end_of_run(outcome, error))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user on this system, as in some containers
        return "unknown"
