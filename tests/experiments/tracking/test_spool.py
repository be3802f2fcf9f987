"""A tracking server that goes away while runs are open, and comes back: everything is there then, once.

All tests of `outage` look at one outage: the server is killed in the middle of a training, and started again.
"""

import http.server
import io
import itertools
import json
import os
import pkgutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from hashlib import sha256
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import workbench as command_line
from experiments import Store
from experiments.process.owner import Owner
from experiments.tracking.lifecycle import close_dead_runs, create_run, open_run, reopen_run
from experiments.tracking.seal import broken
from experiments.tracking.spool import Entry, Journal, deliver, tell_waiting
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.trace import read_trace
from lightning_modules import InputError

EPOCHS = 3
BATCH = 60  # in the second of them the server is killed

# Where a delivery is killed: in the middle of a run, and when all of it is delivered but not yet removed.
DEADLY = [
    ("experiments.tracking.spool", "write", 2),
    *[("experiments.tracking.spool:Journal", "remove", call) for call in (1, 2)],
]

NETWORK = """
import os, signal
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    batches = 0

    def forward(self, images):
        if self.training:
            self.batches += 1
            if self.batches == {batch}:
                os.killpg({server}, signal.SIGKILL)
        return super().forward(images)
"""


class Server(Protocol):
    url: str

    @property
    def group(self) -> int: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code, and what it printed."""

    code: int
    result: str
    lines: list[str]


def command(*words: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command_line.main(words)
    return Said(code, out.getvalue(), err.getvalue().splitlines())


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def log_until_killed(store: Store, reports: Connection) -> None:
    """A run whose process will be killed while the server is unreachable."""
    run_id = create_run(store, experiment="spool", name="killed", kind="train")
    with open_run(store, run_id) as run:
        run.log_metrics({"loss": 0.5}, 1)
        run.flush_metrics()
        reports.send(run_id)
        reports.recv()  # the server is gone
        run.log_metrics({"loss": 0.25}, 2)
        run.flush_metrics()
        run.set_tags({"spooled": "yes"})
        reports.send(run_id)
        reports.recv()


def deliver_until(store: Store, owner: str, function: str, call: int) -> None:
    """Delivers, with SIGKILL instead of a function's nth call."""
    found, calls = pkgutil.resolve_name(owner), itertools.count(1)
    original = getattr(found, function)

    def deadly(*args: Any) -> Any:
        return os.kill(os.getpid(), signal.SIGKILL) if next(calls) == call else original(*args)

    setattr(found, function, deadly)
    deliver(store)


@dataclass
class Outage:
    """What the tests saw of the outage."""

    store: Store
    trained: Said = field(init=False)  # the server was killed while it trained
    spooled: dict[str, str] = field(init=False)  # that run's files while the server was unreachable
    listed_without_server: Said = field(init=False)
    killed: str = ""  # the run of the process that was killed meanwhile
    open: str = ""  # the run that was open all the time
    back: int = 0  # when the server was started again, in milliseconds since 1970
    exit_codes: list[int | None] = field(default_factory=list)  # of the processes that delivered and were killed
    listed: Said = field(init=False)  # once all was over

    @property
    def trained_run(self) -> str:
        return str(json.loads(self.trained.result)["run_id"])

    def points(self, run_id: str, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.store.client.get_metric_history(run_id, name)]


@pytest.fixture(scope="module")
def outage(
    stoppable_server: Server, tmp_path_factory: pytest.TempPathFactory, forks: ForkServerContext
) -> Iterator[Outage]:
    folder = tmp_path_factory.mktemp("outage")
    (folder / "net_at_a_bad_moment.py").write_text(NETWORK.format(batch=BATCH, server=stoppable_server.group))
    store = ("--store", str(folder / "store"))
    words = ("train", "digits", "--model.network", "net_at_a_bad_moment.Net", "--trainer.max_epochs", str(EPOCHS))
    words += ("--trainer.threads", "1")  # with more, the rehearsal compares them over many batches
    seen = Outage(Store(folder / "store", stoppable_server.url))
    ours, theirs = forks.Pipe()
    doomed = forks.Process(target=log_until_killed, args=(Store(folder / "store", stoppable_server.url), theirs))
    doomed.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("MLFLOW_TRACKING_URI", stoppable_server.url)
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
        seen.killed = ours.recv()
        seen.open = create_run(seen.store, experiment="spool", name="open", kind="train")
        with open_run(seen.store, seen.open) as live:
            live.log_metrics({"loss": 1.0}, 1)
            live.flush_metrics()
            seen.trained = command(*words, "--json", *store)
            seen.spooled = contents(seen.store.spool / seen.trained_run)
            seen.listed_without_server = command("runs", *store)
            live.log_metrics({"loss": 0.5}, 2)
            live.flush_metrics()
            ours.send("gone")
            ours.recv()
            doomed.kill()
            doomed.join()
            stoppable_server.kill()
            seen.back = int(time.time() * 1000)
            stoppable_server.start()
            live.log_metrics({"loss": 0.25}, 3)
        for owner, function, call in DEADLY:
            process = forks.Process(target=deliver_until, args=(Store.open(folder / "store"), owner, function, call))
            process.start()
            process.join()
            seen.exit_codes.append(process.exitcode)
        seen.listed = command("runs", "--json", *store)
        yield seen


def test_training_continues_without_the_server_and_reports_what_is_queued(outage: Outage) -> None:
    assert outage.trained.code == 0
    printed = json.loads(outage.trained.result)
    assert (printed["status"], printed["outcome"]) == ("FINISHED", "finished")
    assert {"val/accuracy", "test/accuracy", "value"} <= printed["metrics"].keys()
    spool, url = outage.store.spool, outage.store.tracking_uri
    remedy = "the next command on this store with that MLFLOW_TRACKING_URI delivers it"
    assert outage.trained.lines[-1] == f"data of 1 run is queued in {spool} for {url}: {remedy}"


def test_a_command_that_needs_the_server_says_in_one_line_that_it_is_unreachable(outage: Outage) -> None:
    assert outage.listed_without_server.code == 2
    assert len(outage.listed_without_server.lines) == 1
    assert outage.listed_without_server.lines[0].startswith("error: MLFLOW_TRACKING_URI: MLflow cannot open it")


def test_the_run_is_whole_after_deliveries_that_were_killed_and_one_that_was_not(
    outage: Outage, tmp_path: Path
) -> None:
    assert outage.exit_codes == [-signal.SIGKILL] * 3
    assert outage.listed.code == 0
    assert [run["outcome"] for run in json.loads(outage.listed.result)["runs"] if run["run_id"] == outage.trained_run]
    client = MlflowClient(outage.store.tracking_uri)
    run = client.get_run(outage.trained_run)
    assert (run.info.status, run.data.tags["workbench.outcome"]) == ("FINISHED", "finished")
    assert run.info.end_time < outage.back
    assert run.data.params["trainer.max_epochs"] == str(EPOCHS)
    names = [data.dataset.name for data in run.inputs.dataset_inputs]
    assert sorted(names) == ["digits-test", "digits-train", "digits-val"]
    sent = Path(client.download_artifacts(outage.trained_run, "", str(tmp_path)))
    assert contents(sent) == outage.spooled
    epochs = [line for line in read_trace(sent / "trace.jsonl") if line["stage"] == "epoch"]
    assert len(epochs) == EPOCHS
    for name in epochs[0]["metrics"]:
        expected = [(line["epoch"], float.fromhex(line["metrics"][name])) for line in epochs]
        assert outage.points(outage.trained_run, name) == expected
    for name in run.data.metrics.keys() - epochs[0]["metrics"].keys():
        steps = [step for step, _ in outage.points(outage.trained_run, name)]
        every_epoch = {"throughput/images_per_second", "progress/optimizer_steps"}
        if name.startswith("system/"):
            assert steps == list(range(len(steps)))
        else:
            assert steps == (list(range(1, EPOCHS + 1)) if name in every_epoch else [EPOCHS])


def test_a_run_that_is_open_all_the_time_has_every_point_once(outage: Outage) -> None:
    assert outage.points(outage.open, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert outage.store.client.get_run(outage.open).info.status == "FINISHED"


def test_what_a_killed_process_had_spooled_is_delivered_before_its_run_is_closed(outage: Outage) -> None:
    assert outage.points(outage.killed, "loss") == [(1, 0.5), (2, 0.25)]
    close_dead_runs(outage.store)
    run = outage.store.client.get_run(outage.killed)
    assert (run.data.tags["spooled"], run.data.tags["workbench.outcome"]) == ("yes", "died")


def test_nothing_is_left_in_the_spool_but_the_folder_of_the_killed_run(outage: Outage) -> None:
    assert [path.name for path in outage.store.spool.iterdir()] == [outage.killed]


# One file of the spool, and one wait.


def test_a_line_cut_short_by_a_kill_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path, "http://127.0.0.1:9")
    journal = Journal(store, "a")
    journal.append(Entry(metrics=[("loss", float("nan"), 1, 1)]))
    journal.append(Entry(tags={"a": "b"}))
    (path,) = store.spool.iterdir()
    path.write_bytes(path.read_bytes() + b'{"tags": {"a": ')
    metrics, tags = journal.read().entries
    assert (str(metrics.metrics), tags.tags) == ("[['loss', nan, 1, 1]]", {"a": "b"})


def test_what_is_queued_for_one_server_is_not_sent_to_another_and_its_password_is_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Journal(Store(tmp_path, "http://me:planted@127.0.0.1:9"), "a").append(Entry(status="FINISHED", end_time=1))
    deliver(Store(tmp_path, "http://127.0.0.1:10"))
    tell_waiting(Store(tmp_path, "http://127.0.0.1:10"))
    assert "data of 1 run is queued in" in (said := capsys.readouterr().err)
    (path,) = (tmp_path / "spool").iterdir()
    assert "http://127.0.0.1:9:" in said
    assert "planted" not in said + path.read_text()


def test_what_needs_the_server_is_tried_until_it_is_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served: list[http.server.HTTPServer] = []

    def get() -> int:
        if len(tries) == 1:  # the first try found nobody
            served.append(http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler))
            threading.Thread(target=served[0].handle_request).start()
        tries.append(port)
        return requests.get(f"http://127.0.0.1:{port}", timeout=5).status_code

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as taken:
        port = taken.server_port
    tries: list[int] = []
    assert Store(tmp_path, f"http://127.0.0.1:{port}").persist(get) == 200
    served[0].server_close()
    assert "the tracking server is unreachable (ConnectionError); trying again in 1 s" in capsys.readouterr().err


# A queue that an earlier process of the run has left.


def new_run(store: Store) -> str:
    return create_run(store, experiment="spool", name="left", kind="train")


def resume(store: Store, run_id: str) -> None:
    with reopen_run(store, run_id):
        pass


def test_a_run_with_data_queued_for_another_address_is_not_resumed(tmp_path: Path) -> None:
    Journal(Store(tmp_path, "http://localhost:9"), "a").append(Entry(status="KILLED", end_time=1))
    remedy = "deliver it first: MLFLOW_TRACKING_URI=http://localhost:9 workbench runs"
    with pytest.raises(InputError, match=f"is queued in {tmp_path}/spool for http://localhost:9 .*; {remedy}"):
        resume(Store(tmp_path, "http://127.0.0.1:9"), "a")


def test_a_run_whose_queued_data_the_server_refuses_is_not_resumed(tracking_server: str, tmp_path: Path) -> None:
    store = Store(tmp_path, tracking_server)
    run_id = new_run(store)
    store.client.log_param(run_id, "seed", "0")
    store.client.set_terminated(run_id, "KILLED")
    Journal(store, run_id).append(Entry(params={"seed": "1"}, status="KILLED", end_time=1))
    with pytest.raises(InputError, match=f"the server refuses it .*; .* delete {run_id}.jsonl"):
        resume(store, run_id)
    assert store.client.get_run(run_id).info.status == "KILLED"
    (store.spool / f"{run_id}.jsonl").unlink()
    resume(store, run_id)
    assert store.client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("is_here", [True, False])
def test_what_a_lost_process_had_queued_is_dropped_but_not_the_files_of_a_living_owner(
    is_here: bool, tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, tracking_server)
    run_id = new_run(store)
    if not is_here:
        store.client.set_tag(run_id, "workbench.owner", str(replace(Owner.current(), boot="another", key="ab12")))
    with monkeypatch.context() as lost:
        lost.setattr(Store, "present", lambda _: replace(Owner.current(), started=1.0, key="ff00"))
        Journal(store, run_id).append(Entry(status="KILLED", end_time=1))
    (store.spool / run_id).mkdir()
    (store.spool / run_id / "trace.jsonl").touch()
    deliver(store)
    assert [path.name for path in store.spool.rglob("*")] == ([run_id, "trace.jsonl"] if is_here else [])
    store.client.set_terminated(run_id, "KILLED")


# A file that the server refuses.


def test_a_run_whose_file_is_refused_has_failed_and_can_be_resumed(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store", tracking_server)
    run_id, log_artifact = new_run(store), store.client.log_artifact

    def refuse_the_trace(run_id: str, path: str, folder: str | None) -> None:
        if path.endswith("trace.jsonl"):
            raise MlflowException("413 Request Entity Too Large")
        log_artifact(run_id, path, folder)

    def train(opened: AbstractContextManager[TrackedRun]) -> None:
        with opened as tracked:
            for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "trace.jsonl"):
                tracked.path(name).write_text(name)
            tracked.superfluous.add("checkpoints/last.ckpt")

    with monkeypatch.context() as refusing:
        refusing.setattr(store.client, "log_artifact", refuse_the_trace)
        with pytest.raises(MlflowException, match="413"):
            train(open_run(store, run_id))
    assert store.client.get_run(run_id).info.status == "FAILED"
    assert contents(store.spool / run_id).keys() == {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "trace.jsonl"}
    assert [file.path for file in store.client.list_artifacts(run_id)] == ["checkpoints"]
    train(reopen_run(store, run_id))
    (tmp_path / "sent").mkdir()
    sent = Path(store.client.download_artifacts(run_id, "", str(tmp_path / "sent")))
    assert contents(sent).keys() == {"checkpoints/best.ckpt", "trace.jsonl", "record.json"}
    record = json.loads((sent / "record.json").read_text())
    assert list(broken(record, store.client.get_run(run_id), sent)) == []
