"""Opening and closing runs, metrics in batches, the Lightning logger.

Nobody else writes to MLflow. What an open run writes goes through spool.py, and so waits for a server that is away; to
begin a run, or to go on with one, needs the server, which is waited for (Store.persist).

Status and outcome of a run: finished → FINISHED; pruned, interrupted → KILLED; failed, died → FAILED.
"""

import getpass
import json
import shutil
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from mlflow.entities import DatasetInput, RunInfo
from mlflow.utils.file_utils import local_file_uri_to_path
from pytorch_lightning.loggers.logger import Logger

from experiments.process.interrupts import Interrupted, uninterrupted
from experiments.process.owner import Owner
from experiments.tracking.spool import Entry, Outbox, Point, deliver, tell_waiting, write
from experiments.tracking.store import Store, server_away, store_failure
from experiments.tracking.system_metrics import SystemMetrics
from experiments.training.epochs import StopRun

Kind = Literal["train", "sweep", "trial", "finalist", "reproduction", "comparison"]
Outcome = Literal["finished", "pruned", "failed", "interrupted", "died"]

STATUS: dict[Outcome, str] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
    "died": "FAILED",
}
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # MLflow's limits on one batch
_MAX_TAG, _MAX_PARAM = 5000, 6000  # and on the characters of one


class Pruned(StopRun):
    """Ends a run as pruned: its trial is not worth more epochs."""


class TakenOver(StopRun):
    """Ends a run that others took for dead: it stays died, and what it was doing is done again elsewhere."""


class TrackedRun:
    """One MLflow run, open for writing. Metrics go through a thread that writes what has gathered, in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        info = store.persist(lambda: store.client.get_run(run_id)).info
        self.run_id, self.name, self.experiment_id = run_id, info.run_name, info.experiment_id
        self.artifact_uri = info.artifact_uri
        self.folder = files_folder(store, info)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._in_place = self.folder.parent != store.spool
        self.latest: dict[str, float] = {}  # the last value of each metric but those of the system
        self.outcome: Outcome | None = None  # once it is closed
        # What the run has from an earlier process:
        self._known_points: set[tuple[str, int]] = set()  # (metric, step)
        self._known_params: set[str] = set()
        self._outbox = Outbox(store, run_id)
        self._writer = _MetricWriter(self._outbox)
        self._system: SystemMetrics | None = None

    def monitor_system(self) -> None:
        """Logs CPU, memory, disk, network and GPU use as `system/…` metrics until the run is closed."""
        self._system = SystemMetrics(self.run_id, self.store.tracking_uri, self._writer.add)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Takes the values and returns at once. `step` counts optimizer steps."""
        self.latest |= metrics
        self._writer.add({k: v for k, v in metrics.items() if (k, step) not in self._known_points}, step)

    def flush_metrics(self) -> None:
        """Tries to write what has gathered, now; what cannot be written is tried again later."""
        self._writer.try_to_write()

    def take_up(self) -> None:
        """Goes on from what an earlier process left: fetches files from a remote store, writes nothing known again."""
        client = self.store.client
        if not self._in_place and not any(self.folder.iterdir()):
            fetched = self.folder.with_suffix(".fetched")  # in place only once it is whole, should this process die
            shutil.rmtree(fetched, ignore_errors=True)
            fetched.mkdir()
            client.download_artifacts(self.run_id, "", str(fetched))
            self.folder.rmdir()
            fetched.rename(self.folder)
        known = client.get_run(self.run_id).data
        self._known_params = set(known.params)
        self.latest = {name: value for name, value in known.metrics.items() if not name.startswith("system/")}
        for name in self.latest:
            self._known_points |= {(name, point.step) for point in client.get_metric_history(self.run_id, name)}

    def log_params(self, params: Mapping[str, Any]) -> None:
        """A param that the run has already stays as it is."""
        texts = [(name, as_param(value)) for name, value in params.items() if name not in self._known_params]
        for start in range(0, len(texts), _MAX_PARAMS):
            self._outbox.put(Entry(params=dict(texts[start : start + _MAX_PARAMS])))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._outbox.put(Entry(tags={name: text[:_MAX_TAG] for name, text in tags.items()}))

    def share_view(self, view: Mapping[str, Any]) -> None:
        """Keeps a view of the experiment's table, as MLflow's UI does when one is shared; its key is the run's id."""
        key = f"mlflow.sharedViewState.{self.run_id}"
        self.store.client.set_experiment_tag(self.experiment_id, key, json.dumps(view))

    def log_inputs(self, inputs: Sequence[DatasetInput]) -> None:
        """Adds the data that the run read."""
        self._outbox.put(Entry(inputs=[data.to_dictionary() for data in inputs]))

    def close(self, outcome: Outcome, error: str = "") -> None:
        """Writes what is still buffered, sends files to a remote store, and sets status and outcome.

        Where the tracking server is away, all of it waits in the spool, and is no failure.
        """
        with uninterrupted():
            try:
                if self._system is not None:
                    self._system.finish()
                self._writer.finish()
                if not self._in_place:
                    self._outbox.put(Entry(files=True))
            except Exception as lost:
                outcome, error = "failed", f"not all could be written: {lost}"
                raise
            finally:
                self.outcome = outcome
                self._outbox.put(_end(outcome, error))
            if self._outbox.is_waiting():
                tell_waiting(self.store)


def files_folder(store: Store, info: RunInfo) -> Path:
    """Where a run's files are written: in a local store at once; those for a remote one gather in the spool."""
    if urlparse(info.artifact_uri).scheme in ("", "file"):
        return Path(local_file_uri_to_path(info.artifact_uri))
    return store.spool / str(info.run_id)


def as_param(value: Any) -> str:
    """A param as MLflow's text, which it cuts: null, true and false as in YAML."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)[:_MAX_PARAM]


def create_run(
    store: Store, *, experiment: str, name: str, kind: Kind, parent: str | None = None, tags: Mapping[str, str] = {}
) -> str:
    """Makes a run of this process, RUNNING from now on; its id, for `open_run`."""
    all_tags = {
        "workbench.kind": kind,
        "workbench.owner": str(Owner.current()),
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(sys.argv[0]).name,
        **({"mlflow.parentRunId": parent} if parent else {}),
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


def register_model(store: Store, run_id: str, *, name: str, alias: str) -> str:
    """Registers the model that a run logged as a version of `name`, once, and points `alias` at it; the version."""
    client = store.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    registered = [version for version in client.search_model_versions(f"name = '{name}'") if version.run_id == run_id]
    version = registered[0] if registered else client.create_model_version(name, f"runs:/{run_id}/model", run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


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
    write(store, run_id, _end(outcome, error))


def _end(outcome: Outcome, error: str) -> Entry:
    """What ends a run, now."""
    tags = {"workbench.outcome": outcome} | ({"workbench.error": error[:_MAX_TAG]} if error else {})
    return Entry(tags=tags, status=STATUS[outcome], end_time=int(time.time() * 1000))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user on this system, as in some containers
        return "unknown"


class _MetricWriter:
    """Gathers metric values and writes them every few seconds, in order, away from the training thread.

    Values that could not be written are kept and tried again; `finish` raises what the last try raised.
    """

    def __init__(self, outbox: Outbox, interval: float = 2.0) -> None:
        self._outbox, self.interval = outbox, interval
        self._pending: list[Point] = []
        self._writing = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric-writer", daemon=True)
        self._thread.start()

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._pending.extend((key, float(value), now, step) for key, value in metrics.items())

    def finish(self) -> None:
        """Writes all that is left; it waits in the spool where the tracking server is away."""
        self._ending.set()
        self._thread.join()
        self._write()
        try:
            self._outbox.deliver()
        except Exception as error:
            if server_away(error) is None:
                raise

    def try_to_write(self) -> None:
        try:
            self._write()
        except Exception as error:
            print(f"metrics not written yet, will try again: {error}", file=sys.stderr)

    def _write(self) -> None:
        with self._writing:
            while batch := self._pending[:_MAX_METRICS]:
                self._outbox.put(Entry(metrics=batch))
                del self._pending[: len(batch)]  # values added since then come after these

    def _run(self) -> None:
        while not self._ending.wait(self.interval):
            self.try_to_write()
            self._outbox.try_to_deliver()


class RunLogger(Logger):
    """Lightning's way into a tracked run. It never decides the run's status: that is `open_run`'s.

    `step` tells how many optimizer steps are done: Lightning's own count is one less at an epoch's end, and 0 for
    a test of loaded weights.
    """

    def __init__(self, run: TrackedRun, step: Callable[[], int]) -> None:
        super().__init__()
        self._run = run
        self._step = step

    @property
    def name(self) -> str:
        return str(self._run.name)

    @property
    def version(self) -> str:
        return self._run.run_id

    @property
    def save_dir(self) -> str:
        return str(self._run.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        self._run.log_metrics(values, self._step())

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The configuration is logged when the run begins."""
