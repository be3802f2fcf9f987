"""Which runs there are, and which one a user means."""

import csv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from experiments import Store
from experiments.tracking.lifecycle import create_run
from experiments.tracking.runs import list_runs, parse_since, resolve
from lightning_modules import InputError


@pytest.fixture
def store(digits_store: Path, first_run: Run, second_run: Run) -> Store:
    """Holds `first`, then `second`."""
    return Store.open(digits_store)


def test_runs_come_newest_first(store: Store) -> None:
    assert [run.name for run in list_runs(store)] == ["second", "first"]


def test_a_limit_keeps_the_newest(store: Store) -> None:
    assert [run.name for run in list_runs(store, limit=1)] == ["second"]


def test_a_filter_is_mlflow_s_own(store: Store) -> None:
    found = list_runs(store, filter_string="params.`optimizer.lr` = '0.003' and metrics.`val/accuracy` > 0.5")
    assert [run.name for run in found] == ["first"]


def test_runs_sort_by_a_metric_best_first(store: Store, first_run: Run, second_run: Run) -> None:
    for metric, sign in (("val/accuracy", -1), ("val/loss", 1)):
        expected = sorted([first_run, second_run], key=lambda run: sign * run.data.metrics[metric])
        assert [run.run_id for run in list_runs(store, sort=metric)] == [run.info.run_id for run in expected]


def test_runs_are_chosen_by_kind_status_and_time(store: Store, first_run: Run, second_run: Run) -> None:
    assert len(list_runs(store, kind="train", status="finished")) == 2
    assert list_runs(store, kind="trial") == list_runs(store, status="running") == list_runs(store, status="died") == []
    begun = datetime.fromtimestamp(second_run.info.start_time / 1000)
    assert [run.name for run in list_runs(store, since=begun)] == ["second"]


def test_a_list_of_runs_is_a_table(store: Store, first_run: Run, second_run: Run) -> None:
    runs = list_runs(store, sort="val/accuracy")
    shown = runs._repr_html_()
    for run in (first_run, second_run):
        assert f"<td>{run.info.run_id[:8]}</td><td>{run.info.run_name}</td><td>train</td><td>finished</td>" in shown
        assert f"<td>{run.data.metrics['test/accuracy']:.4f}</td>" in shown
    table = runs.to_pandas().set_index("name")
    assert list(table.index) == [run.name for run in runs]
    assert table.loc["second", "optimizer.lr"] == "0.001"
    assert table.loc["first", "val/accuracy"] == first_run.data.metrics["val/accuracy"]


def test_a_time_is_a_moment_or_an_age() -> None:
    now = datetime(2026, 3, 1, 12)
    assert parse_since("36h", now) == datetime(2026, 2, 28)
    assert parse_since("2w", now) == datetime(2026, 2, 15, 12)
    assert parse_since("2026-02-03T04:05", now) == datetime(2026, 2, 3, 4, 5)
    for wrong in ("yesterday", "7", "99999999999w"):
        with pytest.raises(InputError, match="--since"):
            parse_since(wrong, now)


def test_the_command_lists_columns_and_csv(store: Store, workbench: Callable[..., Any]) -> None:
    words = ("runs", "--store", store.folder, "--sort", "val/accuracy", "--columns", "optimizer.lr,val/loss")
    table = workbench(*words)
    assert "optimizer.lr" in table.stdout
    assert "0.003" in table.stdout
    assert "test/accuracy" not in table.stdout
    rows = list(csv.DictReader(workbench("runs", "--store", store.folder, "--csv").stdout.splitlines()))
    assert [row["name"] for row in rows] == ["second", "first"]
    assert [row["optimizer.lr"] for row in rows] == ["0.001", "0.003"]
    assert [float(row["val/accuracy"]) for row in rows] == [run.metrics["val/accuracy"] for run in list_runs(store)]


def test_system_metrics_are_not_listed(store: Store) -> None:
    assert not any(name.startswith("system/") for run in list_runs(store) for name in run.metrics)


def test_a_run_is_known_by_id_prefix_name_and_latest(store: Store, first_run: Run, second_run: Run) -> None:
    meant = {
        first_run.info.run_id: first_run,
        first_run.info.run_id[:8]: first_run,
        "first": first_run,
        "latest": second_run,
    }
    assert {word: resolve(store, word)[0].run_id for word in meant} == {w: run.info.run_id for w, run in meant.items()}


def test_a_name_means_the_newest_run_of_that_name(scratch_store: Store) -> None:
    made = [create_run(scratch_store, experiment="names", name="it's twice", kind="train") for _ in range(2)]
    (found,) = resolve(scratch_store, "it's twice")
    assert found.run_id == made[1]


@pytest.mark.parametrize("word", ["nothing", "", "no:champion", "%", "first'"])
def test_what_names_no_run_is_refused(store: Store, word: str) -> None:
    with pytest.raises(InputError):
        resolve(store, word)


def test_latest_in_an_empty_store_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workbench train digits"):
        resolve(Store.open(tmp_path), "latest")


def test_an_unknown_sweep_is_named(store: Store) -> None:
    with pytest.raises(InputError, match="nightly"):
        list_runs(store, sweep="nightly")
