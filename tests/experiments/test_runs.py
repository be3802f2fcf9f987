"""Which runs there are, and which one a user means."""

from pathlib import Path

import pytest
from mlflow.entities import Run

from experiments import Store
from experiments.runs import list_runs, resolve
from experiments.tracking import create_run
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
