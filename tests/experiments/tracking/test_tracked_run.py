"""Writing a run: metrics and params in batches, and the status that stands for how it ended."""

import json
import signal
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from mlflow.entities import Dataset, DatasetInput, Run

from experiments import Store
from experiments.errors import Interrupted, Pruned
from experiments.process.interrupts import interruptible
from experiments.process.owner import Owner
from experiments.tracking.lifecycle import close_dead_runs, create_run, open_run, reopen_run
from experiments.tracking.seal import broken


def new_run(store: Store, **tags: str) -> str:
    return create_run(store, experiment="tracking", name="test", kind="train", tags=tags)


def points(store: Store, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in store.client.get_metric_history(run_id, name)]


def reread(store: Store, run_id: str) -> Run:
    return store.client.get_run(run_id)


# Metrics, params and inputs.


def test_points_keep_their_order(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    falling = [(step, float(100 - step)) for step in range(100)]
    with open_run(scratch_store, run_id) as run:
        for step, value in falling:
            run.log_metrics({"falling": value}, step)
    assert points(scratch_store, run_id, "falling") == falling
    assert reread(scratch_store, run_id).data.metrics["falling"] == 1.0


def test_more_points_than_mlflow_takes_in_one_batch_all_arrive(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    many = {f"many/{number}": float(number) for number in range(2500)}
    with open_run(scratch_store, run_id) as run:
        run.log_metrics(many, 7)
    assert reread(scratch_store, run_id).data.metrics == many


def test_more_params_than_mlflow_takes_in_one_batch_all_arrive(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    many = {f"param.{number}": number for number in range(250)}
    with open_run(scratch_store, run_id) as run:
        run.log_params(many)
    assert reread(scratch_store, run_id).data.params == {name: str(number) for name, number in many.items()}


def test_null_true_and_false_are_written_as_in_yaml(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    with open_run(scratch_store, run_id) as run:
        run.log_params({"a": None, "b": True, "c": False, "d": 1, "e": 0})
    assert reread(scratch_store, run_id).data.params == {"a": "null", "b": "true", "c": "false", "d": "1", "e": "0"}


def test_the_record_of_a_run_that_is_interrupted_while_it_writes_has_what_was_written(
    scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_run(scratch_store)
    log_batch, calls = scratch_store.client.log_batch, []

    def interrupted_at_the_second(*args: Any, **kwargs: Any) -> None:
        calls.append(kwargs)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        log_batch(*args, **kwargs)

    monkeypatch.setattr(scratch_store.client, "log_batch", interrupted_at_the_second)

    def log() -> None:
        with interruptible(), open_run(scratch_store, run_id) as run:
            run.log_params({f"param.{number}": number for number in range(250)})

    with pytest.raises(Interrupted):
        log()
    ended = reread(scratch_store, run_id)
    record = json.loads((scratch_store.files_folder(ended.info) / "record.json").read_text())
    assert len(ended.data.params) == 200
    assert record["params"] == ended.data.params


def test_the_record_of_a_resumed_run_has_the_values_that_the_store_keeps(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    with open_run(scratch_store, run_id) as run:
        run.log_metrics({"speed": 1.0}, 1)
        run.log_metrics({"speed": 2.0}, 2)
    with reopen_run(scratch_store, run_id) as run:  # as after a kill, from the first epoch's checkpoint
        run.log_metrics({"speed": 1.5}, 1)
    ended = reread(scratch_store, run_id)
    folder = scratch_store.files_folder(ended.info)
    assert points(scratch_store, run_id, "speed") == [(1, 1.0), (2, 2.0)]
    assert list(broken(json.loads((folder / "record.json").read_text()), ended, folder)) == []


def test_runs_that_begin_at_once_share_the_rows_of_their_data(scratch_store: Store) -> None:
    names = ("digits-train", "digits-val")
    inputs = [DatasetInput(Dataset(name, "a digest", "local", "digits"), []) for name in names]
    runs = 8
    together = threading.Barrier(runs)

    def begin(run_id: str) -> None:
        with open_run(scratch_store, run_id) as run:
            together.wait()
            run.log_inputs(inputs)

    run_ids = [new_run(scratch_store) for _ in range(runs)]
    with ThreadPoolExecutor(runs) as threads:
        list(threads.map(begin, run_ids))
    for run_id in run_ids:
        assert {data.dataset.name for data in reread(scratch_store, run_id).inputs.dataset_inputs} == set(names)
    with closing(sqlite3.connect(scratch_store.folder / "mlflow.db")) as database:
        kept = database.execute("SELECT count(*) FROM datasets WHERE digest = 'a digest'").fetchone()
    assert kept == (len(names),)


def test_values_that_the_store_refused_at_first_arrive_later(
    scratch_store: Store, poll: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_run(scratch_store)
    log_batch, refused = scratch_store.client.log_batch, []

    def busy_at_first(*args: Any, **kwargs: Any) -> None:
        if kwargs.get("metrics") and not refused:
            refused.append(kwargs["metrics"])
            raise ConnectionError("the store is busy")
        log_batch(*args, **kwargs)

    monkeypatch.setattr(scratch_store.client, "log_batch", busy_at_first)
    with open_run(scratch_store, run_id) as run:
        for step in range(3):
            run.log_metrics({"kept": float(step)}, step)
        poll(lambda: bool(refused))
        run.log_metrics({"kept": 3.0}, 3)
    assert points(scratch_store, run_id, "kept") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


# Status and outcome.


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (Pruned(), "KILLED", "pruned"),
        (Interrupted("SIGINT"), "KILLED", "interrupted"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (ValueError("wrong"), "FAILED", "failed"),
        (MemoryError("full"), "FAILED", "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_an_exception_decides_how_the_run_ended(
    scratch_store: Store, error: BaseException, status: str, outcome: str
) -> None:
    run_id = new_run(scratch_store)
    with pytest.raises(type(error)), open_run(scratch_store, run_id):
        raise error
    ended = reread(scratch_store, run_id)
    assert (ended.info.status, ended.data.tags["workbench.outcome"]) == (status, outcome)
    assert ended.info.end_time is not None


def test_a_failed_run_names_its_error(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    with pytest.raises(ValueError, match="wrong"), open_run(scratch_store, run_id):
        raise ValueError("wrong")
    assert reread(scratch_store, run_id).data.tags["workbench.error"] == "ValueError: wrong"


def test_metrics_logged_before_a_failure_are_kept(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)

    def fail() -> None:
        with open_run(scratch_store, run_id) as run:
            run.log_metrics({"last": 1.5}, 3)
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert points(scratch_store, run_id, "last") == [(3, 1.5)]


# Runs whose process is gone.


def test_a_running_run_of_a_live_process_is_left_alone(scratch_store: Store) -> None:
    run_id = new_run(scratch_store)
    assert run_id not in close_dead_runs(scratch_store)
    assert reread(scratch_store, run_id).info.status == "RUNNING"


def test_a_running_run_of_a_process_that_is_gone_is_closed_as_died(scratch_store: Store) -> None:
    here = Owner.current()
    run_id = new_run(scratch_store, **{"workbench.owner": str(replace(here, started=here.started - 1, key="ff00"))})
    assert run_id in close_dead_runs(scratch_store)
    closed = reread(scratch_store, run_id)
    assert (closed.info.status, closed.data.tags["workbench.outcome"]) == ("FAILED", "died")
    assert here.shown in closed.data.tags["workbench.error"]


@pytest.mark.parametrize("owner", ["elsewhere/1@0.5", "", "nonsense"])
def test_a_running_run_of_unknown_fate_is_left_alone(scratch_store: Store, owner: str) -> None:
    run_id = new_run(scratch_store, **{"workbench.owner": owner})
    close_dead_runs(scratch_store)
    assert reread(scratch_store, run_id).info.status == "RUNNING"
