"""One MLflow run, open for writing: params, tags, files, and metrics in batches.

Nobody but this room writes to MLflow. What an open run writes goes through `spool.py`, and so waits while its server is
away.

Status and outcome of a run: finished → FINISHED; pruned, interrupted → KILLED; failed, died → FAILED.
"""

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import DatasetInput

from experiments.process.interrupts import uninterrupted
from experiments.tracking.spool import Entry, Outbox, Point, tell_waiting
from experiments.tracking.store import Store, server_away
from experiments.tracking.system_metrics import SystemMetrics
from lightning_modules.log import LOG

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


class TrackedRun:
    """One MLflow run, open for writing. Metrics go through a thread that writes what has gathered, in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        info = store.persist(lambda: store.client.get_run(run_id)).info
        self.run_id, self.name, self.experiment_id = run_id, info.run_name, info.experiment_id
        self.artifact_uri = info.artifact_uri
        self.folder = store.files_folder(info)
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

    def path(self, artifact: str) -> Path:
        """Where the run's file of this name (`experiments/artifact_names.py`) is written; its folder exists."""
        path = self.folder / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

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
                self._outbox.put(end_of_run(outcome, error))
            if self._outbox.is_waiting():
                tell_waiting(self.store)


def as_param(value: Any) -> str:
    """A param as MLflow's text, which it cuts: null, true and false as in YAML."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)[:_MAX_PARAM]


def end_of_run(outcome: Outcome, error: str) -> Entry:
    """The entry that ends a run now."""
    tags = {"workbench.outcome": outcome} | ({"workbench.error": error[:_MAX_TAG]} if error else {})
    return Entry(tags=tags, status=STATUS[outcome], end_time=int(time.time() * 1000))


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
            LOG.warning(f"metrics are not written yet, and will be tried again: {error}")

    def _write(self) -> None:
        with self._writing:
            while batch := self._pending[:_MAX_METRICS]:
                self._outbox.put(Entry(metrics=batch))
                del self._pending[: len(batch)]  # values added since then come after these

    def _run(self) -> None:
        while not self._ending.wait(self.interval):
            self.try_to_write()
            self._outbox.try_to_deliver()
