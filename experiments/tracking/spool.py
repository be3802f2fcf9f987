"""What a run writes, on its way to the store: at once, or, while its tracking server is away, later, in order, once.

What cannot be written lies in the store's `spool/`: the run's files in `RUN_ID/`, the rest in its journal
`RUN_ID.jsonl`, an entry a line. The run itself delivers it while it goes on, and any later command once it has ended.

An entry that is written twice leaves what it left the first time: MLflow knows a point by its run, name, step, value
and time, and all of them are in the journal; tags, params, data inputs, files, status and end time replace themselves.
So a journal is written from its start, by one process at a time, until that has come to its end once. Points that a
process elsewhere logged meanwhile, which went on with the run, are left out.
"""

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from experiments.process.owner import Owner
from experiments.process.redaction import without_credentials
from experiments.process.retry import pauses
from experiments.tracking.store import Store, server_away
from lightning_modules.log import LOG

Point = tuple[str, float, int, int]  # a metric's name and value, milliseconds since 1970, and step


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is written of a run in one go. An entry with a status is a run's last one."""

    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[Mapping[str, Any]] = ()  # each as MLflow's DatasetInput.to_dictionary gives it
    files: bool = False  # all that lies in the spool's folder of this run, which is then removed
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    end_time: int | None = None  # milliseconds since 1970


def write(store: Store, run_id: str, entry: Entry) -> None:
    """Writes an entry to MLflow."""
    client = store.client
    if entry.inputs:
        _write_inputs(store, run_id, entry.inputs)
    if entry.files:
        _send_files(store, run_id)
    if entry.metrics or entry.params or entry.tags:
        client.log_batch(
            run_id,
            metrics=[Metric(*point) for point in entry.metrics],
            params=[Param(name, text) for name, text in entry.params.items()],
            tags=[RunTag(name, text) for name, text in entry.tags.items()],
        )
    if entry.status is not None:
        client.set_terminated(run_id, entry.status, entry.end_time)


def _write_inputs(store: Store, run_id: str, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Adds the data that the run read. Runs of one experiment share the rows of equal data.

    MLflow looks for such a row and then makes it, so of two that do so at once one is refused. Each time it is,
    the other has made at least one of them.
    """
    datasets = [
        DatasetInput(Dataset(**each["dataset"]), [InputTag(*tag) for tag in each["tags"].items()]) for each in inputs
    ]
    attempts_left = len(datasets)
    while True:
        try:
            store.client.log_inputs(run_id, datasets=datasets)
            return
        except MlflowException as error:
            if not attempts_left or server_away(error):
                raise
            attempts_left -= 1


def _send_files(store: Store, run_id: str) -> None:
    folder = store.spool / run_id
    sent = folder.with_suffix(".sent")
    shutil.rmtree(sent, ignore_errors=True)
    if folder.exists():
        store.client.log_artifacts(run_id, str(folder))
        # First by another name: a process killed here must not leave a part of what a resume needs.
        shutil.rmtree(folder.rename(sent))


class Journal:
    """The file of what waits to be written of one run. Its first line tells for which server, and whose the run is.

    Lines are only ever added, and each is on the disk before `append` returns. One cut short by a kill does not count.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self._path = store.spool / f"{run_id}.jsonl"
        self._server = _server(store)

    def exists(self) -> bool:
        return self._path.exists()

    def append(self, entry: Entry) -> None:
        text = {name: value for name, value in asdict(entry).items() if value}
        if self.exists():
            _add_line(self._path, text)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        _add_line(new, {"server": self._server, "owner": str(Owner.current())})
        _add_line(new, text)
        new.replace(self._path)

    def read(self) -> "Waiting":
        whole, _, _ = self._path.read_text(encoding="utf-8").rpartition("\n")
        head, *entries = [json.loads(line) for line in whole.split("\n")]
        return Waiting(head["server"], Owner.parse(head["owner"]), [Entry(**entry) for entry in entries])

    def remove(self) -> None:
        self._path.unlink()


@dataclass(frozen=True)
class Waiting:
    """What a journal held when it was read."""

    server: str  # without credentials
    owner: Owner | None
    entries: list[Entry]  # in order; one or more

    @property
    def has_end(self) -> bool:
        return self.entries[-1].status is not None

    @property
    def is_left(self) -> bool:
        """Whether its run writes nothing any more: it has ended, or its process on this host is gone."""
        return self.has_end or (self.owner is not None and self.owner.is_gone())


def _add_line(path: Path, content: Mapping[str, Any]) -> None:
    """Adds a line; where the disk is full, or the process interrupted, nothing."""
    line = json.dumps(content).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException:
            os.truncate(file.fileno(), end)
            raise


class Outbox:
    """The way of an open run's entries into the store. While one of them waits, all that come later wait behind it."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._journal = Journal(store, run_id)
        self._lock = threading.Lock()  # not held while what waits is tried again: training goes on meanwhile
        self._delivered = 0  # of the journal's entries
        self._pauses, self._due = pauses(), 0.0  # between two tries, and when the next one is due

    def is_waiting(self) -> bool:
        """Whether anything waits for the server to be back."""
        return self._journal.exists()

    def put(self, entry: Entry) -> None:
        """Writes it, or, where the server is away, has it wait. Raises what else keeps it from being written."""
        with self._lock:
            if self.is_waiting() or not self._is_written(entry):
                self._journal.append(entry)

    def _is_written(self, entry: Entry) -> bool:
        try:
            write(self._store, self._run_id, entry)
        except Exception as error:
            if (reason := server_away(error)) is None:
                raise
            LOG.info(f"{reason}: what the run logs from now on waits in {self._store.spool}")
            return False
        return True

    def deliver(self) -> None:
        """Writes what waits. Raises where that is not possible yet."""
        while self.is_waiting():
            for entry in self._journal.read().entries[self._delivered :]:
                write(self._store, self._run_id, entry)
                self._delivered += 1
            with self._lock:
                if len(self._journal.read().entries) == self._delivered:
                    self._journal.remove()
                    self._delivered = 0
                    LOG.info("the tracking server is back, and has what waited for it")

    def try_to_deliver(self) -> None:
        """Writes what waits, where that is possible and it is time to try again: after pauses that grow."""
        if not self.is_waiting() or time.monotonic() < self._due:
            return
        try:
            self.deliver()
            self._pauses = pauses()
        except Exception as error:
            if server_away(error) is None:
                LOG.info(f"not written yet, will try again: {error}")
            self._due = time.monotonic() + next(self._pauses)


def deliver(store: Store, run_id: str | None = None) -> None:
    """Writes what waits for this store's server, of one run or of all, that ended or whose process here is gone.

    What the server refuses is told, and stays where it is. Raises where the server is away.
    """
    if not _journals(store):
        return
    delivered = 0
    with store.lock("spool"):
        for journal in _journals(store):
            waiting = _left(journal) if run_id in (None, journal.run_id) else None
            if waiting is not None and waiting.server == _server(store):
                delivered += _deliver(store, journal, waiting)
    if delivered:
        LOG.info(f"delivered what {_runs(delivered)} had waiting in {store.spool}")


def tell_waiting(store: Store) -> None:
    """Says in one line how many runs wait for a server, and what delivers them."""
    found = [waiting for journal in _journals(store) if (waiting := _left(journal))]
    for server, count in Counter(waiting.server for waiting in found).items():
        remedy = "the next command on this store with that MLFLOW_TRACKING_URI delivers what waits"
        LOG.info(f"{_runs(count)} waiting in {store.spool} for {server}: {remedy}")


def _journals(store: Store) -> list[Journal]:
    return [Journal(store, path.stem) for path in sorted(store.spool.glob("*.jsonl"))]


def _left(journal: Journal) -> Waiting | None:
    """What it holds, unless its run still writes, or another process has just delivered it."""
    try:
        waiting = journal.read()
    except FileNotFoundError:
        return None
    return waiting if waiting.is_left else None


def _deliver(store: Store, journal: Journal, waiting: Waiting) -> bool:
    """Whether all of it could be written; its journal is removed then."""
    try:
        known = _known_points(store, journal.run_id, waiting)
        for entry in waiting.entries:
            points = [point for point in entry.metrics if (point[0], point[3]) not in known]
            write(store, journal.run_id, replace(entry, metrics=points))
        if waiting.has_end and "workbench.error" not in waiting.entries[-1].tags:
            _clear_error(store, journal.run_id)
    except Exception as error:
        if server_away(error) is not None:
            raise
        reason = without_credentials(str(error).splitlines()[0])
        LOG.info(f"run {journal.run_id}: what waits of it in {store.spool} was refused: {reason}")
        return False
    journal.remove()
    return True


def _known_points(store: Store, run_id: str, waiting: Waiting) -> set[tuple[str, int]]:
    """The (metric, step) that the run has: the same points, or those of a process elsewhere that went on with it."""
    names = {point[0] for entry in waiting.entries for point in entry.metrics if not point[0].startswith("system/")}
    return {(name, point.step) for name in names for point in store.client.get_metric_history(run_id, name)}


def _clear_error(store: Store, run_id: str) -> None:
    """Forgets the reason of those who took the run for dead while its end had not arrived."""
    if "workbench.error" in store.client.get_run(run_id).data.tags:
        store.client.delete_tag(run_id, "workbench.error")


def _server(store: Store) -> str:
    return without_credentials(store.tracking_uri).rstrip("/")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
