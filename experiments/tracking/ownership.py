"""Which process may write a run: the one that its tag `workbench.owner` names, as long as the run is RUNNING.

A process looks before each write whether it still owns its run. In a store on this machine's disks another one cannot
take the run meanwhile, because it is not gone as long as it holds its lock (process/presence.py). On a server, and on a
shared folder whose locks are not shared, a write that is on its way when the run is taken may still arrive.
"""

import sqlite3
import threading
import time
from collections.abc import Collection
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import sqlalchemy
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.pool import NullPool

from experiments.databases.postgres import connect
from experiments.errors import TakenOver
from experiments.process.owner import Owner
from experiments.process.presence import BEAT, Lease, gone
from experiments.tracking.store import Store

OWNER = "workbench.owner"
_LEASE = "workbench.lease"  # a server's time, in seconds since 1970, when the owner renewed its lease

_STATE = """SELECT runs.status, tags.value FROM runs
    LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = ? WHERE runs.run_uuid = ?"""


def owned(store: Store) -> dict[str, str]:
    """Returns the tags of a run that this process owns from now on."""
    owner = {OWNER: str(store.present())}
    return owner if store.is_local else owner | {_LEASE: f"{_now(store):.3f}"}


class LeaseKeeper:
    """Renews the lease on a run that other hosts see, in a thread, until the end of a `with` block."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._ending = threading.Event()
        threading.Thread(target=self._run, name="lease", daemon=True).start()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.wait(BEAT):
            with suppress(Exception):  # the server may be away: then the lease ages, and the next beat renews it
                self._store.client.set_tag(self._run_id, _LEASE, f"{_now(self._store):.3f}")


def check_owned(store: Store, run_id: str) -> None:
    """Raises TakenOver if a run is no longer RUNNING, or no longer owned by this process."""
    if store.is_local:
        status, now = _read_state(store.folder / "mlflow.db", run_id)
    else:
        run = store.client.get_run(run_id)
        status, now = run.info.status, run.data.tags.get(OWNER)
    owner = Owner.parse(now or "")
    if owner != Owner.current():
        taker = owner.shown if owner is not None else "another process"
        message = f"run {run_id} was taken over by {taker}, because this process had given no sign of life"
        raise TakenOver(message, "this one stops, and has written nothing to it since")
    if status != "RUNNING":
        message = f"run {run_id} was closed (it is {status} now), as if this process had died"
        raise TakenOver(message, "this one stops, and has written nothing to it since; it can be resumed")


def dead_runs(store: Store) -> list[Run]:
    """Returns the RUNNING runs whose owners are gone. May take `presence.WATCH` seconds."""
    running = _running(store)
    ended = _gone_owners(store, running)
    # A run may have been resumed since it was read.
    return [run for run in running if (owner := owner_of(run)) in ended and owner == _owner_now(store, run)]


def owner_of(run: Run) -> Owner | None:
    return Owner.parse(run.data.tags.get(OWNER, ""))


def is_abandoned(store: Store, run: Run) -> bool:
    """Whether the run's owner is gone, or not known."""
    owner = owner_of(run)
    return owner is None or owner in _gone_owners(store, [run])


def _gone_owners(store: Store, runs: Collection[Run]) -> set[Owner]:
    """Returns those owners of the runs that are gone."""
    owners = {owner for run in runs if (owner := owner_of(run)) is not None}
    if store.is_local:
        return gone(owners, store.folder)
    return gone(owners, store.folder, lambda owner: _latest_lease(store, runs, owner))


def _running(store: Store) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return list(store.client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000))


def _owner_now(store: Store, run: Run) -> Owner | None:
    now = store.client.get_run(run.info.run_id)
    return owner_of(now) if now.info.status == "RUNNING" else None


def _latest_lease(store: Store, runs: Collection[Run], owner: Owner) -> Lease:
    """Returns the newest lease on the owner's runs, read again. A run without one counts as renewed now."""
    ids = [run.info.run_id for run in runs if owner_of(run) == owner]
    texts = [store.client.get_run(run_id).data.tags.get(_LEASE) for run_id in ids]
    if None in texts:
        return Lease("", 0)
    latest = max(float(text) for text in texts if text is not None)
    return Lease(str(latest), _now(store) - latest)


def _now(store: Store) -> float:
    """Returns the time by the clock of the server, in seconds since 1970: one clock for all hosts."""
    if store.is_served:
        answer = http_request(get_default_host_creds(store.tracking_uri), "/health", "GET")
        if date := answer.headers.get("Date"):
            return parsedate_to_datetime(date).timestamp()
    if store.tracking_uri.startswith("postgresql"):
        engine = connect(store.tracking_uri, "MLFLOW_TRACKING_URI", poolclass=NullPool)
        with engine.connect() as connection:
            return float(connection.execute(sqlalchemy.text("SELECT extract(epoch FROM now())")).scalar_one())
    return time.time()


def _read_state(database: Path, run_id: str) -> tuple[str, str | None]:
    """Reads a run's status and owner. Directly, because MLflow would read all of the run's tags, params and metrics."""
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        rows: list[tuple[str, str | None]] = connection.execute(_STATE, (OWNER, run_id)).fetchall()
    if not rows:
        raise MlflowException(f"run {run_id} is gone")
    return rows[0]
