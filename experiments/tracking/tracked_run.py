"""One MLflow run, open for writing: params, tags, files, and metrics in batches.

All writes of an open run go through `spool.py`, which queues them while the tracking server is unreachable.

Status and outcome of a run: finished → FINISHED; pruned, interrupted → KILLED; failed, died → FAILED.
"""

import shutil
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import DatasetInput

from experiments.errors import TakenOver
from experiments.process.interrupts import uninterrupted
from experiments.process.redaction import without_credentials
from experiments.tracking.logged_model import ListedModel
from experiments.tracking.ownership import OWNER, LeaseKeeper, check_owned
from experiments.tracking.seal import break_seal, remove_file, seal
from experiments.tracking.spool import Entry, Outbox, Point, send_file, tell_waiting
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
IN_EPOCHS = {"workbench.step": "epoch"}  # the tag of runs whose metrics have the epoch as their step
_MAX_METRICS, _MAX_PARAMS = 1000, 100  # MLflow's limits on one batch
_MAX_TAG, _MAX_PARAM = 5000, 6000  # MLflow's limits on the characters of one value


def counts_epochs(tags: Mapping[str, str]) -> bool:
    """Whether the step of the run's scores is the epoch. In runs of earlier versions it is the optimizer step."""
    return IN_EPOCHS.items() <= tags.items()


def step_of(tags: Mapping[str, str], epoch: int, optimizer_steps: int) -> int:
    """Returns the step of the scores of an epoch (1 is the first), after so many optimizer steps in all."""
    return epoch if counts_epochs(tags) else optimizer_steps


class TrackedRun:
    """One MLflow run, open for writing. A thread collects metrics and writes them in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        run = store.persist(lambda: store.client.get_run(run_id))
        info = run.info
        self.run_id, self.name, self.experiment_id = run_id, info.run_name, info.experiment_id
        self.artifact_uri = info.artifact_uri
        self.folder = store.files_folder(info)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._in_place = self.folder.parent != store.spool
        self.latest: dict[str, float] = {}  # the last value of each metric, without system metrics
        self.params, self.tags = dict(run.data.params), dict(run.data.tags)
        self.outcome: Outcome | None = None  # None until the run is closed
        self.pause = 0  # milliseconds in which the run was closed and did nothing, and that do not count
        self.superfluous: set[str] = set()  # files that go once the run has finished; until then it may be resumed
        # What an earlier process has already logged:
        self._known_points: dict[tuple[str, int], tuple[float, int]] = {}  # (metric, step) → value, milliseconds
        self._outbox = Outbox(store, run_id, self._check_owned)
        self._writer = _MetricWriter(self._outbox)
        self._lease = None if store.is_local else LeaseKeeper(store, run_id)
        self._system: SystemMetrics | None = None

    def path(self, artifact: str) -> Path:
        """Returns the path for an artifact (its name is in `experiments/artifact_names.py`); creates its folder."""
        path = self.folder / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def monitor_system(self) -> None:
        """Logs CPU, memory, disk, network and GPU use as `system/…` metrics until the run is closed."""
        self._system = SystemMetrics(self.run_id, self.store.tracking_uri, self._writer.add)

    def check_owned(self) -> None:
        """Raises TakenOver if another process has closed or taken the run. That of a sweep may have several owners.

        While a tracking server is away, nothing is known, and nothing is raised.
        """
        try:
            self._check_owned()
        except Exception as error:
            if server_away(error) is None:
                raise

    def _check_owned(self) -> None:
        if self.tags.get("workbench.kind") not in {"sweep", "repeats"}:
            check_owned(self.store, self.run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queues the values and returns immediately."""
        new = self._new_points(metrics, step)
        self.latest |= new
        self._writer.add(new, step)

    def log_model(self, model: ListedModel, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics of the run, and the same of its model, which MLflow lists."""
        now = int(time.time() * 1000)
        known = {name: self._known_points.get((name, step), (float(value), now)) for name, value in metrics.items()}
        self._outbox.put(Entry(metrics=[(name, *point, step) for name, point in known.items()], model=asdict(model)))
        self.latest |= self._new_points(metrics, step)

    def _new_points(self, metrics: Mapping[str, float], step: int) -> dict[str, float]:
        """Returns those of the metrics that no earlier process has logged at this step: the store keeps its values."""
        return {name: value for name, value in metrics.items() if (name, step) not in self._known_points}

    def flush_metrics(self) -> None:
        """Tries to write the queued metrics now; what cannot be written is retried later."""
        self._writer.try_to_write()

    def restore(self) -> None:
        """Loads what an earlier process logged, to log nothing twice, and downloads the files from a remote store."""
        client = self.store.client
        if not self._in_place and not any(self.folder.iterdir()):
            fetched = self.folder.with_suffix(".fetched")  # renamed only when complete: this process may be killed
            shutil.rmtree(fetched, ignore_errors=True)
            fetched.mkdir()
            client.download_artifacts(self.run_id, "", str(fetched))
            self.folder.rmdir()
            fetched.rename(self.folder)
        break_seal(self.folder)
        known = client.get_run(self.run_id).data
        self.params, self.tags = dict(known.params), dict(known.tags)
        self.latest = {name: value for name, value in known.metrics.items() if not name.startswith("system/")}
        for name in self.latest:
            for point in client.get_metric_history(self.run_id, name):
                self._known_points[name, point.step] = point.value, point.timestamp

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs params; skips those that the run already has."""
        texts = [(name, as_param(value)) for name, value in params.items() if name not in self.params]
        for start in range(0, len(texts), _MAX_PARAMS):
            batch = dict(texts[start : start + _MAX_PARAMS])
            with uninterrupted():  # the run's record has what was written, no more and no less
                self._outbox.put(Entry(params=batch))
                self.params |= batch

    def set_tags(self, tags: Mapping[str, str]) -> None:
        cut = {name: without_credentials(text)[:_MAX_TAG] for name, text in tags.items()}
        with uninterrupted():
            self._outbox.put(Entry(tags=cut))
            self.tags |= cut

    def share_view(self, key: str, view: str) -> None:
        """Saves a view of the experiment's runs, as MLflow's UI does when a user shares one."""
        self.store.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{key}", view)

    def log_inputs(self, inputs: Sequence[DatasetInput]) -> None:
        """Records the data sets that the run read."""
        self._outbox.put(Entry(inputs=[data.to_dictionary() for data in inputs]))

    def send(self, artifact: str) -> None:
        """Sends a file to a remote store now. When the run is closed, all files are sent."""
        if not self._in_place:
            send_file(self.store, self.run_id, artifact)

    def close(self, outcome: Outcome, error: str = "") -> None:
        """Writes the buffered metrics, sends files to a remote store, and sets status and outcome.

        If the tracking server is unreachable, all of this is queued in the spool and does not count as a failure.
        """
        dropped = self.superfluous if outcome == "finished" else set()
        with uninterrupted(), self._lease or nullcontext():
            try:
                if self._system is not None:
                    self._system.finish()
                self._writer.finish()
                self.check_owned()
                self._seal(end_of_run(outcome, error), dropped)
                if not self._in_place:
                    self._outbox.put(Entry(files=True, without=sorted(dropped)))
            except TakenOver:
                self.outcome = "died"
                raise
            except Exception as lost:
                break_seal(self.folder)
                self._end("failed", f"some results could not be written: {lost}")
                raise
            self._end(outcome, error)
            if self._in_place:
                self._drop_superfluous(dropped)
            if self._outbox.has_queue():
                tell_waiting(self.store)
            elif not self._in_place:
                self._drop_from_server(dropped)

    def _end(self, outcome: Outcome, error: str) -> None:
        self.outcome = outcome
        self._outbox.put(end_of_run(outcome, error, self.pause))

    def _seal(self, end: Entry, without: Collection[str]) -> None:
        """Writes `record.json`, the last of the run's files."""
        assert end.status is not None
        owner = self.tags.get(OWNER, "")
        given = {"params": self.params, "metrics": self.latest, "tags": {**self.tags, **end.tags}}
        seal(self.folder, run_id=self.run_id, status=end.status, owner=owner, without=without, **given)

    def _drop_superfluous(self, names: Collection[str]) -> None:
        """Removes what a finished run does not keep. What a killed process leaves of it, `workbench clean` removes."""
        for name in names:
            remove_file(self.folder, name)

    def _drop_from_server(self, names: Collection[str]) -> None:
        """Removes what an earlier process, which did not finish the run, has sent and the run does not keep."""
        try:
            for folder in {str(Path(name).parent) for name in names}:
                for file in self.store.client.list_artifacts(self.run_id, folder.removeprefix(".")):
                    if file.path in names:
                        self.store.delete_artifact(self.artifact_uri, file.path)
        except Exception as error:
            LOG.info(f"a file of {self.name} could not be removed ({error}); workbench clean tries again")


def as_param(value: Any) -> str:
    """Converts a param to text, cut to MLflow's limit; None and booleans become null, true and false as in YAML."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else without_credentials(str(value))[:_MAX_PARAM]


def end_of_run(outcome: Outcome, error: str, pause: int = 0) -> Entry:
    """Returns the entry that ends a run now. `pause`: milliseconds that do not count as part of the run."""
    tags = {"workbench.outcome": outcome} | (
        {"workbench.error": without_credentials(error)[:_MAX_TAG]} if error else {}
    )
    return Entry(tags=tags, status=STATUS[outcome], end_time=int(time.time() * 1000) - pause)


class _MetricWriter:
    """Collects metric values and writes them in order every few seconds, in a thread of its own, until the run is lost.

    Values that could not be written are kept and retried; `finish` raises the error of the last attempt.
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
        """Writes all remaining values; they stay in the spool if the tracking server is unreachable."""
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
        except TakenOver:
            raise
        except Exception as error:
            LOG.warning(f"could not write metrics; will retry: {error}")

    def _write(self) -> None:
        with self._writing:
            while batch := self._pending[:_MAX_METRICS]:
                self._outbox.put(Entry(metrics=batch))
                del self._pending[: len(batch)]  # `add` may have appended more values meanwhile

    def _run(self) -> None:
        with suppress(TakenOver):  # the run's own thread finds out, too
            while not self._ending.wait(self.interval):
                self.try_to_write()
                self._outbox.try_to_deliver()
