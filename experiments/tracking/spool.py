"""Writes go straight to the tracking server. While it is unreachable they are queued on disk, then replayed in order.

The queue is the store's folder `spool/`: a run's files are in `RUN_ID/`, everything else is in its journal
`RUN_ID.jsonl`, one entry per line. A running run delivers its own queue; after it ends, any later command does.

Writing an entry twice has the same effect as writing it once. MLflow identifies a point by run, name, step, value and
time, and the journal stores all of these; tags, params, data inputs, files, status and end time overwrite themselves.
A delivery may therefore start again from the first line until one is complete. One process at a time delivers. The
queue of a run that another process has taken over is dropped: that one does its work again.
"""

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from experiments.artifact_names import RECORD
from experiments.errors import TakenOver
from experiments.process.owner import Owner
from experiments.process.presence import gone, is_held
from experiments.process.redaction import without_credentials
from experiments.process.retry import pauses
from experiments.tracking.logged_model import ListedModel, write_model
from experiments.tracking.store import Store, server_away
from lightning_modules import InputError
from lightning_modules.log import LOG

Point = tuple[str, float, int, int]  # a metric's name and value, milliseconds since 1970, and step


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Data of a run that is written together. An entry with a status is the run's last one."""

    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[Mapping[str, Any]] = ()  # each as returned by MLflow's DatasetInput.to_dictionary
    model: Mapping[str, Any] | None = None  # a ListedModel; the metrics are also its own
    files: bool = False  # whether to send the run's folder in the spool, and then remove it
    without: Sequence[str] = ()  # files that are not sent, but removed with that folder
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    end_time: int | None = None  # milliseconds since 1970


def write(store: Store, run_id: str, entry: Entry) -> None:
    """Writes one entry to MLflow."""
    client = store.client
    if entry.inputs:
        _write_inputs(store, run_id, entry.inputs)
    of_model = {} if entry.model is None else _write_model(store, run_id, ListedModel(**entry.model))
    if entry.files:
        _send_files(store, run_id, entry.without)
    if entry.metrics or entry.params or entry.tags:
        client.log_batch(
            run_id,
            metrics=[Metric(*point, **of_model) for point in entry.metrics],
            params=[Param(name, text) for name, text in entry.params.items()],
            tags=[RunTag(name, text) for name, text in entry.tags.items()],
        )
    if entry.status is not None:
        client.set_terminated(run_id, entry.status, entry.end_time)


def _write_inputs(store: Store, run_id: str, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Records the data sets that the run read. Runs of one experiment share a database row for equal data.

    MLflow looks for the row and then inserts it. If two processes do this at the same time, one of them fails. Each
    failure means that the other process has inserted at least one row, so the number of failures is limited.
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


def _write_model(store: Store, run_id: str, model: ListedModel) -> dict[str, str]:
    """Writes the LoggedModel of a run. Returns what its metrics have; nothing if the server is one without them."""
    try:
        model_id = write_model(store, run_id, model)
    except MlflowException as error:
        if server_away(error) is not None:
            raise
        reason = without_credentials(str(error).splitlines()[0])
        LOG.warning(f"the model of run {run_id} is not listed in the dashboard's Models tab: {reason}")
        return {}
    name, digest = model.dataset or ("", "")
    return {"model_id": model_id} | ({"dataset_name": name, "dataset_digest": digest} if name else {})


def send_file(store: Store, run_id: str, name: str) -> None:
    """Sends a file from a run's folder in the spool. `name`: relative to that folder."""
    parent = str(Path(name).parent)
    store.client.log_artifact(run_id, str(store.spool / run_id / name), None if parent == "." else parent)


def _send_files(store: Store, run_id: str, without: Collection[str]) -> None:
    """Sends the record last: where a server refuses another file, it has no seal of a run that has failed."""
    folder = store.spool / run_id
    sent = folder.with_suffix(".sent")
    shutil.rmtree(sent, ignore_errors=True)
    if folder.exists():
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for name in sorted(names - set(without), key=lambda name: (name == RECORD, name)):
            send_file(store, run_id, name)
        # Rename first: a process killed while it deletes must not leave an incomplete folder that a resume would use.
        shutil.rmtree(folder.rename(sent))


class Journal:
    """The file with one run's queued entries. Its first line names the server and the process that owns the run.

    Lines are only appended. Each is on disk before `append` returns. A line that a kill cut short is ignored.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id, self._store = run_id, store
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
        _add_line(new, {"server": self._server, "owner": str(self._store.present())})
        _add_line(new, text)
        new.replace(self._path)

    def read(self) -> "JournalContents":
        complete, _, _ = self._path.read_text(encoding="utf-8").rpartition("\n")
        head, *entries = [json.loads(line) for line in complete.split("\n")]
        return JournalContents(head["server"], Owner.parse(head["owner"]), [Entry(**entry) for entry in entries])

    def is_over(self, contents: "JournalContents") -> bool:
        """Whether the run writes no more: it has ended, or its process is gone."""
        owner = contents.owner
        return contents.has_end or (owner is not None and bool(gone([owner], self._store.folder)))

    def remove(self) -> None:
        self._path.unlink()


@dataclass(frozen=True)
class JournalContents:
    """The contents of a journal at the time it was read."""

    server: str  # without credentials
    owner: Owner | None
    entries: list[Entry]  # in order; at least one

    @property
    def has_end(self) -> bool:
        return self.entries[-1].status is not None


def _add_line(path: Path, content: Mapping[str, Any]) -> None:
    """Appends a whole line. If the disk is full or the process is interrupted, it appends nothing."""
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
    """Writes an open run's entries to the store. While one entry is queued, all later entries are queued behind it.

    `check`: is called before each write; raises TakenOver if this process may not write to the run any more.
    """

    def __init__(self, store: Store, run_id: str, check: Callable[[], None]) -> None:
        self._store, self._run_id, self.check = store, run_id, check
        self._journal = Journal(store, run_id)
        self._lock = threading.Lock()  # not held during a delivery, so that training does not have to wait
        self._delivered = 0  # how many of the journal's entries have been delivered
        self._pauses, self._due = pauses(), 0.0  # pauses between attempts, and when the next attempt is due

    def has_queue(self) -> bool:
        """Whether entries are queued until the server can be reached again."""
        return self._journal.exists()

    def put(self, entry: Entry) -> None:
        """Writes the entry, or queues it if the server is unreachable. Raises any other error."""
        with self._lock:
            if self.has_queue() or not self._try_to_write(entry):
                self._journal.append(entry)

    def _try_to_write(self, entry: Entry) -> bool:
        try:
            self.check()
            write(self._store, self._run_id, entry)
        except Exception as error:
            if (reason := server_away(error)) is None:
                raise
            LOG.info(f"{reason}: from now on, what the run logs is queued in {self._store.spool}")
            return False
        return True

    def deliver(self) -> None:
        """Writes the queued entries. Raises an error if that is not possible yet."""
        while self.has_queue():
            for entry in self._journal.read().entries[self._delivered :]:
                self.check()
                write(self._store, self._run_id, entry)
                self._delivered += 1
            with self._lock:
                if len(self._journal.read().entries) == self._delivered:
                    self._journal.remove()
                    self._delivered = 0
                    LOG.info("the tracking server is back; all queued data was delivered")

    def try_to_deliver(self) -> None:
        """Writes the queued entries if the next attempt is due and the server answers. Pauses between attempts grow."""
        if not self.has_queue() or time.monotonic() < self._due:
            return
        try:
            self.deliver()
            self._pauses = pauses()
        except TakenOver:
            raise
        except Exception as error:
            if server_away(error) is None:
                LOG.info(f"could not deliver queued data; will retry: {error}")
            self._due = time.monotonic() + next(self._pauses)


def deliver(store: Store, run_id: str | None = None) -> None:
    """Delivers the queues for this store's server: of all runs, or of `run_id`, that ended or whose process is dead.

    A queue that the server refuses is reported and stays in the spool. Raises an error if the server is unreachable.
    """
    if not _journals(store):
        return
    delivered = 0
    with store.lock("spool"):
        for journal in _journals(store):
            contents = _read_if_over(journal) if run_id in (None, journal.run_id) else None
            if contents is not None and contents.server == _server(store):
                delivered += _deliver(store, journal, contents)
    if delivered:
        LOG.info(f"delivered the data of {_runs(delivered)} queued in {store.spool}")


def check_delivered(store: Store, run_id: str) -> None:
    """Raises InputError if an ended process has left a queue: the run would go on before the queued data are there."""
    contents = _read_if_over(Journal(store, run_id))
    if contents is None:
        return
    if contents.server == _server(store):
        remedy = f"remove the cause, or give the data up: delete {run_id}.jsonl and {run_id}/ there"
        message = f"data of run {run_id} is queued in {store.spool}, and the server refuses it"
    else:
        remedy = f"deliver it first: MLFLOW_TRACKING_URI={contents.server} {store.command('runs')}"
        message = f"data of run {run_id} is queued in {store.spool} for {contents.server}"
    raise InputError("MLFLOW_TRACKING_URI", store.address, message, remedy)


def tell_waiting(store: Store) -> None:
    """Logs one line per server: how many runs have data queued for it, and how to deliver the data."""
    found = [contents for journal in _journals(store) if (contents := _read_if_over(journal))]
    for server, count in Counter(contents.server for contents in found).items():
        remedy = "the next command on this store with that MLFLOW_TRACKING_URI delivers it"
        LOG.info(f"data of {_runs(count)} is queued in {store.spool} for {server}: {remedy}")


def _journals(store: Store) -> list[Journal]:
    return [Journal(store, path.stem) for path in sorted(store.spool.glob("*.jsonl"))]


def _read_if_over(journal: Journal) -> JournalContents | None:
    """Returns a journal's contents; None if its run still writes or another process has just delivered it."""
    try:
        contents = journal.read()
    except FileNotFoundError:
        return None
    return contents if journal.is_over(contents) else None


def _deliver(store: Store, journal: Journal, contents: JournalContents) -> bool:
    """Writes all entries of a journal and then removes it. Returns false if the server refuses one of them."""
    try:
        if taker := _taker(store, journal.run_id, contents):
            LOG.info(f"run {journal.run_id} was taken over by {taker.shown}: what was queued for it here is dropped")
            if taker.fate() != "lives" and not is_held(store.folder, taker):  # else it may be at work in that folder
                shutil.rmtree(store.spool / journal.run_id, ignore_errors=True)
            journal.remove()
            return False
        for entry in contents.entries:
            write(store, journal.run_id, entry)
        if contents.has_end and "workbench.error" not in contents.entries[-1].tags:
            _clear_error(store, journal.run_id)
    except Exception as error:
        if server_away(error) is not None:
            raise
        reason = without_credentials(str(error).splitlines()[0])
        LOG.info(f"run {journal.run_id}: the server refused its data queued in {store.spool}: {reason}")
        return False
    journal.remove()
    return True


def _taker(store: Store, run_id: str, contents: JournalContents) -> Owner | None:
    """Returns the process that has gone on with the run since the journal's process lost touch with the server."""
    owner = Owner.parse(store.client.get_run(run_id).data.tags.get("workbench.owner", ""))
    return owner if None not in (owner, contents.owner) and owner != contents.owner else None


def _clear_error(store: Store, run_id: str) -> None:
    """Deletes the error tag of a process that closed the run as died before the run's real end was delivered."""
    if "workbench.error" in store.client.get_run(run_id).data.tags:
        store.client.delete_tag(run_id, "workbench.error")


def _server(store: Store) -> str:
    return without_credentials(store.tracking_uri).rstrip("/")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
