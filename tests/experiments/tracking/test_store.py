"""The store: made once, whoever comes first."""

import errno
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.engine.default import DefaultDialect

from experiments import Store
from experiments.databases import postgres
from experiments.errors import Interrupted, StoreError
from experiments.process.interrupts import interruptible
from experiments.tracking import store
from lightning_modules import InputError

OPENER = """
import sys
from experiments.tracking.store import Store
print("ready", flush=True)
sys.stdin.readline()
store = Store.open(sys.argv[1])
run = store.client.create_run(store.experiment_id("shared"))
store.client.log_metric(run.info.run_id, "opened", 1.0)
"""


def pragma(store: Path, name: str) -> object:
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_four_processes_may_open_one_fresh_store_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(tmp_path)]
    pipe = subprocess.PIPE
    openers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:  # all have imported what they need: now they race
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    errors = [opener.communicate()[1] for opener in openers]
    assert [opener.returncode for opener in openers] == [0, 0, 0, 0], errors
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'shared'")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.data.metrics["opened"] for run in runs] == [1.0] * 4
    assert pragma(tmp_path, "integrity_check") == "ok"


def test_the_database_writes_ahead(digits_store: Path) -> None:
    assert pragma(digits_store, "journal_mode") == "wal"


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    Store.open(tmp_path).ensure_database()
    # Not of a store that this process goes on to use: closing a file releases all locks that SQLite has on it.
    before = (tmp_path / "mlflow.db").read_bytes()
    Store.open(tmp_path).ensure_database()
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_leftovers_of_a_start_that_was_killed_are_no_obstacle(
    tmp_path: Path, make_database: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_make_mlflow_database", make_database)
    (tmp_path / "mlflow.db.new").write_bytes(b"half a database")
    (tmp_path / "mlflow.db.new-journal").write_bytes(b"its journal")
    assert Store.open(tmp_path).client.search_experiments()
    assert not list(tmp_path.glob("mlflow.db.new*"))


def test_a_database_is_made_after_an_attempt_that_was_stopped(
    tmp_path: Path, make_database: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "_initialize_store_state", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_database(tmp_path)
    make_database(tmp_path)
    assert [path.name for path in tmp_path.glob("mlflow.db*")] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()


def test_a_tracking_server_named_in_the_environment_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    store = Store.open(tmp_path / "store")
    assert store.tracking_uri == f"sqlite:///{tmp_path}/elsewhere.db"
    assert not (tmp_path / "store" / "mlflow.db").exists()


@pytest.mark.timeout(30)  # MLflow itself tries again for 100 s
def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, though longer than the hundred bytes of its header " * 9)
    with pytest.raises(InputError, match=r"--store.*mlflow\.db"):
        _ = Store.open(tmp_path).client


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_database_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    with socket.socket() as listener:  # accepts connections, but says nothing
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen()
        monkeypatch.setattr(postgres, "PATIENCE", 2)
        address = f"127.0.0.1:{listener.getsockname()[1]}/runs"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:secret@{address}")
        with pytest.raises(InputError, match=rf"MLFLOW_TRACKING_URI: cannot be opened: .*{address}") as raised:
            _ = Store.open(tmp_path).client
        assert "secret" not in str(raised.value)


def test_an_experiment_is_made_once(scratch_store: Store) -> None:
    assert scratch_store.experiment_id("twice") == scratch_store.experiment_id("twice")


def test_a_deleted_experiment_is_named_with_the_way_to_restore_it(scratch_store: Store) -> None:
    experiment_id = scratch_store.experiment_id("deleted")
    scratch_store.client.delete_experiment(experiment_id)
    with pytest.raises(InputError, match=f"mlflow experiments restore -x {experiment_id}"):
        scratch_store.experiment_id("deleted")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
        (sqlite3.OperationalError("database or disk is full"), "database or disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "[Errno 28] No space left on device"),
        (requests.ConnectionError(), "the tracking server is unreachable (ConnectionError)"),
    ],
)
def test_a_store_that_fails_is_told_with_what_was_wrong(scratch_store: Store, error: Exception, told: str) -> None:
    with pytest.raises(StoreError) as raised, scratch_store.telling_failures():
        raise error
    remedy = "fix the cause, then run the same command again; a sweep continues where it stopped"
    assert str(raised.value) == f"--store: {scratch_store.folder} failed: {told}; {remedy}"


def test_an_error_of_other_code_is_not_the_stores(scratch_store: Store) -> None:
    with pytest.raises(ValueError, match=r"^no$"), scratch_store.telling_failures():
        raise ValueError("no")


def test_an_interrupt_within_a_write_leaves_no_lock(scratch_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy closes the connection, but the exception's traceback holds a statement, with which it stays open."""
    run = scratch_store.client.create_run("0")
    scratch_store.client.log_batch(run.info.run_id, [Metric("loss", 1.0, 1, 1)])
    execute = DefaultDialect.do_execute

    def stopped(self: DefaultDialect, cursor: Any, statement: str, *rest: Any) -> None:
        execute(self, cursor, statement, *rest)
        if statement.startswith("SELECT latest_metrics"):  # in the transaction that has written the metrics
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(DefaultDialect, "do_execute", stopped)
    with interruptible(), pytest.raises(Interrupted) as interrupted:
        scratch_store.client.log_batch(run.info.run_id, [Metric("loss", 0.5, 2, 2)])
    assert interrupted.traceback
    with closing(sqlite3.connect(scratch_store.folder / "mlflow.db", timeout=0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
    monkeypatch.undo()
    assert scratch_store.client.get_run(run.info.run_id).data.metrics == {"loss": 1.0}
