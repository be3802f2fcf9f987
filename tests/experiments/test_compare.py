"""What differs between two runs."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from mlflow.entities import Run

from experiments import Store
from experiments.compare import compare
from experiments.runs import resolve


@pytest.fixture
def comparison(digits_store: Path, first_run: Run, second_run: Run) -> dict[str, Any]:
    store = Store.open(digits_store)
    return compare(store, [*resolve(store, "first"), *resolve(store, "second")])


def test_only_params_that_differ_are_shown(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    one, two = first_run.info.run_id, second_run.info.run_id
    assert comparison["differences"] == [
        {"field": "optimizer.lr", "kind": "param", "values": {one: "0.003", two: "0.001"}},
        {"field": "seed", "kind": "param", "values": {one: "0", two: "1"}},
    ]


def test_metrics_are_shown_side_by_side(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    values = {row["name"]: row["values"] for row in comparison["metrics"]}
    assert values["test/accuracy"] == {
        run.info.run_id: run.data.metrics["test/accuracy"] for run in (first_run, second_run)
    }


def test_the_link_names_both_runs(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    link = unquote(comparison["dashboard_url"])
    assert f'runs=["{first_run.info.run_id}","{second_run.info.run_id}"]' in link
