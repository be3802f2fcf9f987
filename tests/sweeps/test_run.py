"""Whole sweeps from the command line, read back with the stock clients."""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from experiments import Store, runner
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps import run as run_sweep
from tests.stock import stock_storage
from tests.warm_python import WarmPython

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., WarmPython]

TWO_FINALISTS = ("--budget.trials", "20", "--trainer.max_epochs", "6", "--finalists", "{top: 2, seeds: 2}")


class Stores:
    """What a sweep left, by the stock clients of MLflow and Optuna."""

    def __init__(self, folder: Path, sweep: str) -> None:
        self.folder = folder
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        self.runs: list[Run] = list(self.client.search_runs(["1"], max_results=1000))
        self.study = optuna.load_study(study_name=sweep, storage=stock_storage(folder))

    def of_kind(self, kind: str) -> list[Run]:
        return [run for run in self.runs if run.data.tags["workbench.kind"] == kind]

    def trial_run(self, number: int) -> Run:
        (found,) = [run for run in self.of_kind("trial") if run.data.tags["workbench.trial"] == str(number)]
        return found

    def artifact(self, run: Run, name: str) -> Path:
        return Path(run.info.artifact_uri.removeprefix("file://")) / name

    def assert_agreement(self, target: int) -> None:
        """Exactly `target` trials count, both stores tell the same of each, and nothing runs."""
        outcomes = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "died": "FAIL", "interrupted": "FAIL"}
        statuses = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED"}
        counting = [t for t in self.study.trials if t.user_attrs["outcome"] in {"finished", "pruned", "failed"}]
        assert len(counting) == target
        assert sorted(trial.user_attrs["slot"] for trial in counting) == list(range(target))
        for trial in self.study.trials:
            assert outcomes[trial.user_attrs["outcome"]] == trial.state.name
        for trial in counting:
            run = self.trial_run(trial.number)
            assert run.data.tags["workbench.outcome"] == trial.user_attrs["outcome"]
            assert run.info.status == statuses.get(trial.user_attrs["outcome"], "FAILED")
            assert run.data.tags["mlflow.parentRunId"] == self.study.user_attrs["sweep_run_id"]
            if trial.state.name == "COMPLETE":
                assert run.data.metrics["value"] == trial.value
        assert not [run for run in self.runs if run.info.status == "RUNNING"]
        for database in ("mlflow.db", "optuna.db"):
            with closing(sqlite3.connect(self.folder / database)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def assert_interval(ci95: list[float] | None, mean: float, margin: float) -> None:
    """Of two values; two equal ones have none."""
    assert ci95 == (pytest.approx([mean - margin, mean + margin], abs=1e-4) if margin > 1e-9 else None)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, workbench: Workbench) -> tuple[Stores, dict[str, Any]]:
    """A digits sweep of 20 trials, pruning on, two finalists over two seeds: its stores, and what it printed."""
    folder = tmp_path_factory.mktemp("swept") / "store"
    printed = workbench("sweep", "digits", *TWO_FINALISTS, "--store", folder, "--json")
    assert printed.returncode == 0, printed.stderr
    return Stores(folder, "digits"), json.loads(printed.stdout)


def test_both_stores_agree_on_every_trial(swept: tuple[Stores, dict[str, Any]]) -> None:
    swept[0].assert_agreement(target=20)


def test_some_trial_is_pruned_in_optuna_and_killed_in_mlflow(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, _ = swept
    pruned = [trial for trial in stores.study.trials if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        run = stores.trial_run(trial.number)
        assert (run.info.status, run.data.tags["workbench.outcome"]) == ("KILLED", "pruned")
        epochs = len(stores.client.get_metric_history(run.info.run_id, "val/accuracy"))
        assert epochs == len(trial.intermediate_values) < 6


def test_a_trial_never_touches_the_test_split(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, _ = swept
    for run in stores.of_kind("trial"):
        assert not [name for name in run.data.metrics if name.startswith("test/")]
        assert not stores.artifact(run, "model").exists()
        if run.data.tags["workbench.outcome"] == "finished":
            with np.load(stores.artifact(run, "predictions.npz")) as predictions:
                assert {name.partition("_")[0] for name in predictions.files} == {"val"}


def test_trials_keep_no_checkpoints_and_are_small_and_finalists_keep_one(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, _ = swept
    for run in stores.of_kind("trial"):
        folder = stores.artifact(run, "")
        assert not (folder / "checkpoints").exists()
        assert "checkpoints/last.ckpt" in json.loads((folder / "removed.json").read_text())
        assert sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) < 200_000
    for run in stores.of_kind("finalist"):
        assert [path.name for path in stores.artifact(run, "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_trials_value_is_the_accuracy_of_its_val_predictions(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, _ = swept
    best = stores.study.best_trial
    with np.load(stores.artifact(stores.trial_run(best.number), "predictions.npz")) as predictions:
        assert best.value == (predictions["val_label"] == predictions["val_target"]).mean()


def test_finalists_share_fresh_seeds_and_only_the_champion_reads_test(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, printed = swept
    finalists = stores.of_kind("finalist")
    assert len(finalists) == 4
    seeds = {run.data.params["seed"] for run in finalists}
    assert len(seeds) == 2
    assert seeds.isdisjoint(run.data.params["seed"] for run in stores.of_kind("trial"))
    tested = {run.info.run_id for run in finalists if "test/accuracy" in run.data.metrics}
    assert tested == set(printed["champion"]["run_ids"])
    for run_id in tested:
        assert len(stores.client.get_metric_history(run_id, "test/accuracy")) == 1
        assert stores.artifact(stores.client.get_run(run_id), "model/MLmodel").exists()


def test_the_champion_is_the_finalist_of_best_mean(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, printed = swept
    first, second = printed["finalists"]
    assert printed["champion"]["number"] == first["number"]
    assert first["mean"] == np.mean(first["values"]) >= second["mean"]
    tests = [stores.client.get_run(run_id).data.metrics["test/accuracy"] for run_id in first["run_ids"]]
    assert printed["champion"]["test_accuracy"]["mean"] == np.mean(tests)
    # Student's t with one degree of freedom: 12.706 standard errors, which for two values is half their distance.
    margin = 12.706 * abs(first["values"][0] - first["values"][1]) / 2
    assert_interval(first["ci95"], first["mean"], margin)


def test_the_printed_document_has_the_keys_of_the_contract(swept: tuple[Stores, dict[str, Any]]) -> None:
    stores, printed = swept
    assert (printed["sweep"], printed["study"], printed["target"]) == ("digits", "digits", 20)
    assert printed["sweep_run_id"] == stores.of_kind("sweep")[0].info.run_id
    assert [trial["number"] for trial in printed["trials"]] == list(range(20))
    for trial in printed["trials"]:
        assert trial["run_id"] == stores.trial_run(trial["number"]).info.run_id
        assert trial["params"] == stores.study.trials[trial["number"]].params
        assert str(trial["seed"]) == stores.client.get_run(trial["run_id"]).data.params["seed"]
    assert printed["best"]["value"] == stores.study.best_value
    assert f"/experiments/1/runs/{printed['sweep_run_id']}?" in printed["dashboard_url"]


def test_runs_are_found_by_the_name_of_the_sweep(swept: tuple[Stores, dict[str, Any]], workbench: Workbench) -> None:
    stores, printed = swept
    listed = json.loads(workbench("runs", "--sweep", "digits", "--store", stores.folder, "--json").stdout)["runs"]
    assert [run["kind"] for run in listed].count("trial") == 20
    compared = workbench("compare", "digits:champion", "digits:best", "--store", stores.folder, "--json")
    ids = [run["run_id"] for run in json.loads(compared.stdout)["runs"]]
    assert ids == [*printed["champion"]["run_ids"], printed["best"]["run_id"]]


def test_the_report_tells_luck_and_whether_the_second_is_really_behind(swept: tuple[Stores, dict[str, Any]]) -> None:
    _, printed = swept
    first, second = printed["finalists"]
    apart = [one - other for one, other in zip(first["values"], second["values"], strict=True)]
    mean, margin = sum(apart) / 2, 12.7062 * abs(apart[0] - apart[1]) / 2  # t of 1 degree of freedom; sd / sqrt(2)
    assert printed["runner_up"]["difference"] == pytest.approx(mean)
    assert_interval(printed["runner_up"]["ci95"], mean, margin)
    assert printed["runner_up"]["distinguishable"] == (abs(mean) > margin > 1e-9)
    best = next(finalist for finalist in printed["finalists"] if finalist["number"] == printed["best"]["number"])
    assert printed["luck"]["luck"] == pytest.approx(printed["best"]["value"] - best["mean"])


def test_the_champion_is_registered_once_and_loads_by_its_alias(
    swept: tuple[Stores, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, printed = swept
    version = stores.client.get_model_version_by_alias("digits", "champion")
    assert version.run_id == printed["champion"]["run_ids"][0]
    assert printed["champion"]["model"] == "models:/digits@champion"
    assert len(stores.client.search_model_versions("name = 'digits'")) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{stores.folder}/mlflow.db")
    labels = mlflow.pyfunc.load_model("models:/digits@champion").predict(np.zeros((3, 8, 8), np.uint8))["label"]
    assert labels.shape == (3,)


def test_the_same_command_again_runs_nothing_and_tells_the_same(
    swept: tuple[Stores, dict[str, Any]], workbench: Workbench
) -> None:
    stores, printed = swept
    again = workbench("sweep", "digits", *TWO_FINALISTS, "--workers", "1", "--store", stores.folder, "--json")
    assert json.loads(again.stdout) == printed
    assert len(Stores(stores.folder, "digits").runs) == len(stores.runs)


def test_a_sweep_cut_in_two_equals_the_whole_one(tmp_path: Path) -> None:
    def run_to(trials: int, folder: Path) -> None:
        overrides = {"budget.trials": trials, "trainer.max_epochs": 3, "pruner.kind": "none", "finalists": {}}
        run_sweep(load_sweep("digits", overrides), store=Store.open(folder))

    run_to(6, tmp_path / "whole")
    run_to(3, tmp_path / "cut")
    run_to(6, tmp_path / "cut")
    whole, cut = (Stores(tmp_path / name, "digits").study.trials for name in ("whole", "cut"))
    assert [(trial.params, trial.value) for trial in cut] == [(trial.params, trial.value) for trial in whole]


def test_ctrl_c_ends_a_sweep_and_its_trial_as_interrupted(
    tmp_path: Path, start_workbench: Start, poll: Callable[..., None]
) -> None:
    sweep = start_workbench("sweep", "digits", "--trainer.max_epochs", "2000", "--name", "long", "--store", tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")

    def trials() -> list[Run]:
        if not (tmp_path / "mlflow.db").exists() or not client.search_experiments(filter_string="name = 'digits'"):
            return []
        return list(client.search_runs(["1"], "tags.`workbench.kind` = 'trial' and metrics.`val/accuracy` > 0"))

    poll(lambda: sweep.poll() is not None or trials(), seconds=240)
    os.kill(sweep.pid, signal.SIGINT)
    assert sweep.wait() == 130
    for run in client.search_runs(["1"]):
        assert (run.info.status, run.data.tags["workbench.outcome"]) == ("KILLED", "interrupted")
    trial = optuna.load_study(study_name="long", storage=stock_storage(tmp_path)).trials[0]
    assert (trial.state.name, trial.user_attrs["outcome"]) == ("FAIL", "interrupted")


def test_trials_that_break_are_results_and_the_sweep_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "diverging.yaml"
    space = "{optimizer.kind: [sgd], optimizer.lr: {choices: [0.01, 1.0e+30]}}"
    recipe.write_text(f"recipe: digits\nspace: {space}\nbudget: {{trials: 6}}\nsampler: {{kind: random}}\n")
    run_sweep(load_sweep(str(recipe), {"trainer.max_epochs": 1}), store=Store.open(tmp_path / "store"))
    stores = Stores(tmp_path / "store", "diverging")
    stores.assert_agreement(target=6)
    failed = [trial for trial in stores.study.trials if trial.user_attrs["outcome"] == "failed"]
    assert failed
    for trial in failed:
        assert trial.params["optimizer.lr"] == 1e30
        run = stores.trial_run(trial.number)
        assert "nan" in trial.user_attrs["error"]
        assert "nan" in run.data.tags["workbench.error"]
        assert run.data.tags["mlflow.note.content"].startswith("**Failed:** NonFiniteLossError: ")
        assert "NonFiniteLossError" in stores.artifact(run, "traceback.txt").read_text()


def test_a_finalist_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = runner._fit

    def fails_as_finalist(tracked: TrackedRun, *rest: Any) -> Any:
        if tracked.tags["workbench.kind"] == "finalist":
            raise RuntimeError("no such luck")
        return fit(tracked, *rest)

    monkeypatch.setattr(runner, "_fit", fails_as_finalist)
    sweep = load_sweep("digits", {"budget.trials": 1, "trainer.max_epochs": 1, "finalists": {}})
    result = run_sweep(sweep, store=Store.open(tmp_path))
    assert result.champion is None
    stores = Stores(tmp_path, "digits")
    (finalist,) = stores.of_kind("finalist")
    assert finalist.info.status == "FAILED"
    assert finalist.data.tags["mlflow.note.content"].startswith("**Failed:** RuntimeError: no such luck")
    assert "no such luck" in stores.artifact(finalist, "traceback.txt").read_text()
    assert finalist.data.tags["workbench.configuration"].startswith("trial 0: ")


def test_optuna_dashboards_storage_url_opens_the_study_as_is(swept: tuple[Stores, dict[str, Any]]) -> None:
    summaries = optuna.get_all_study_summaries(stock_storage(swept[0].folder))
    assert {study.study_name: study.n_trials for study in summaries} == {"digits": 20, "digits finalists": 4}


def test_what_no_trial_could_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    recipe = tmp_path / "impossible.yaml"
    recipe.write_text("recipe: digits\noverrides: {model.network_args: {filter: 3}}\nspace: {optimizer.lr: [0.1]}\n")
    store = Store.open(tmp_path / "store")
    with pytest.raises(InputError, match=r"^model\.network_args"):
        run_sweep(load_sweep(str(recipe)), store=store)
    assert not (tmp_path / "store" / "optuna.db").exists()
    assert not store.client.search_runs([e.experiment_id for e in store.client.search_experiments()])


def test_a_champion_whose_test_was_broken_off_is_tested_again(tmp_path: Path) -> None:
    sweep = load_sweep("digits", {"budget.trials": 1, "trainer.max_epochs": 1, "finalists": {}})
    store = Store.open(tmp_path)
    (run_id,) = run_sweep(sweep, store=store).finalists[0]["run_ids"]
    stores = Stores(tmp_path, "digits")
    model = stores.artifact(store.client.get_run(run_id), "model")
    store.client.set_tag(run_id, "workbench.outcome", "interrupted")  # as a signal between metric and model leaves it
    (model / "MLmodel").unlink()
    result = run_sweep(sweep, store=store)
    assert result.champion is not None
    assert result.champion["run_ids"] == [run_id]
    assert store.client.get_run(run_id).data.tags["workbench.outcome"] == "finished"
    assert (model / "MLmodel").exists()


def test_sweeps_in_one_process_leave_no_connection_open(tmp_path: Path) -> None:
    """As in a notebook, where connections would add up."""
    store = Store.open(tmp_path)

    def connections(database: str) -> int:
        """Each has one file of the log. SQLite may close the other files later, because that would release locks."""
        return sum(file.path == f"{tmp_path / database}-wal" for file in psutil.Process().open_files())

    for trials in (1, 2):
        run_sweep(load_sweep("digits", {"budget.trials": trials, "trainer.max_epochs": 1}), store=store)
        assert connections("optuna.db") == 0
        assert 1 <= connections("mlflow.db") <= 5  # MLflow keeps one pool for each database
    with pytest.raises(InputError, match=r"^trainer\.max_epochs: "):
        run_sweep(load_sweep("digits", {"trainer.max_epochs": 2}), store=store)
    assert connections("optuna.db") == 0
