"""Runs are ranked and tested by what they monitor, the right way round."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Metric, Param, RunTag

from experiments import Store
from experiments.comparison.compare import compare
from experiments.comparison.text import verdicts
from experiments.tracking.lifecycle import create_run
from experiments.tracking.runs import list_runs, resolve
from lightning_modules import InputError

RECORD = {
    "data_sha256": "d" * 64,
    "split_sha256": {"val": "v" * 64},
    **{name: {} for name in ("packages", "torch", "machine", "variables")},
    **dict.fromkeys(("git", "sources")),
}


def trained(store: Store, name: str, monitor: str, value: float, confidence: float | None = None) -> str:
    """A run of that value; with `confidence` it labels 200 images with it, every second one rightly."""
    run_id = create_run(store, experiment="objectives", name=name, kind="train")
    metrics = [Metric(metric, value, 0, 1) for metric in (monitor, "value")]
    params = [Param("trainer.monitor", monitor), Param("model.loss", "cross_entropy"), Param("optimizer.lr", name)]
    store.client.log_batch(run_id, metrics, params, [RunTag("workbench.outcome", "finished")])
    store.client.set_terminated(run_id)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "provenance.json").write_text(json.dumps(RECORD))
        if confidence is not None:
            target = np.arange(200) % 2
            probabilities = np.tile(np.array([confidence, 1 - confidence], np.float32), (200, 1))
            answers = {"label": np.zeros(200, np.int64), "target": target, "probabilities": probabilities}
            np.savez(Path(folder, "predictions.npz"), **{f"val_{key}": value for key, value in answers.items()})
        store.client.log_artifacts(run_id, folder)
    return run_id


def compared(store: Store, *run_ids: str) -> dict[str, Any]:
    return compare(store, [run for run_id in run_ids for run in resolve(store, run_id)])


def test_the_lowest_calibration_error_ranks_first_and_is_called_better(scratch_store: Store) -> None:
    # Half of the images are labelled rightly: confidence 0.6 misses that by 0.1, confidence 0.9 by 0.4.
    bold = trained(scratch_store, "bold", "val/calibration_error", 0.4, confidence=0.9)
    modest = trained(scratch_store, "modest", "val/calibration_error", 0.1, confidence=0.6)
    document = compared(scratch_store, bold, modest)
    assert document["metric"] == "val/calibration_error"
    assert [place["run_id"] for place in document["ranking"]] == [modest, bold]
    (row,) = [row for row in document["metrics"] if row["name"] == "val/calibration_error"]
    assert row["best"] == [modest]
    (test,) = document["tests"]
    assert test["between"] == [modest, bold]
    assert test["name"] == "randomization test of val/calibration_error"
    assert test["difference"] == pytest.approx(-0.3, abs=1e-6)
    assert test["ci95"][0] < -0.29
    assert test["ci95"][1] < 0
    assert test["distinguishable"]
    assert verdicts(document)[0].startswith(f"modest ({modest[:8]}) is better than bold ({bold[:8]})")


def test_runs_that_answer_alike_are_not_distinguishable(scratch_store: Store) -> None:
    ids = [trained(scratch_store, name, "val/loss", 0.7, confidence=0.5) for name in ("one", "two")]
    (test,) = compared(scratch_store, *ids)["tests"]
    assert (test["metric"], test["difference"], test["p_value"]) == ("val/loss", 0.0, 1.0)
    assert not test["distinguishable"]


def test_runs_of_different_monitors_are_compared_by_accuracy_and_that_is_said(scratch_store: Store) -> None:
    ids = [trained(scratch_store, monitor, f"val/{monitor}", 0.5) for monitor in ("loss", "macro_f1")]
    document = compared(scratch_store, *ids)
    assert document["metric"] == "val/accuracy"
    assert (
        "the runs monitor different metrics (val/loss, val/macro_f1): they are compared by accuracy"
        in document["notes"]
    )


def test_sorting_by_value_follows_the_monitor(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for name, loss in (("low", 0.1), ("high", 0.9), ("middle", 0.5)):
        trained(store, name, "val/loss", loss)
    assert [run.name for run in list_runs(store, sort="value")] == ["low", "middle", "high"]
    trained(store, "accurate", "val/accuracy", 0.7)
    by_loss = list_runs(store, sort="value", filter_string="params.`trainer.monitor` = 'val/loss'")
    assert [run.name for run in by_loss] == ["low", "middle", "high"]
    with pytest.raises(InputError, match=r"^--sort: the highest value is the best for some"):
        list_runs(store, sort="value")


def test_sorting_by_calibration_error_puts_the_lowest_first(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for name, error in (("worse", 0.2), ("better", 0.1)):
        trained(store, name, "val/calibration_error", error)
    assert [run.name for run in list_runs(store, sort="val/calibration_error")] == ["better", "worse"]


def test_a_difference_that_every_seed_repeats_is_called_too_few_seeds_to_tell() -> None:
    test = {"metric": "val/accuracy", "between": ["a", "b"], "difference": 0.25, "ci95": [0.25, 0.25], "p_value": 1.0}
    document = {"runs": [], "tests": [test | {"distinguishable": False, "name": "Student's t-test"}], "other_tests": []}
    assert verdicts(document) == ["a and b: val/accuracy differs by 0.2500 with every seed, too few seeds to tell"]
