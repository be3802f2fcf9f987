"""A store copied to PostgreSQL and back, by the command line and by hand; a real server on loopback."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.provenance.gather import code_for
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import RunSummary, list_runs
from experiments.tracking.spool import Entry, Journal
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps.errors import CopyError
from sweeps.store_copy.copy import copy_store
from sweeps.store_copy.databases import StorePlace
from sweeps.study.search import Search
from sweeps.study.stage import settle
from tests.stock import stock_storage
from tests.stores import copy_store_folder
from tests.warm_python import WarmPython
from workbench import main

Start = Callable[..., WarmPython]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a sweep of three trials: one complete, one pruned, one that was NaN; a model; nothing open."""
    store = Store.open(tmp_path_factory.mktemp("origin"))
    sweep = load_sweep("digits", {"budget.trials": 3})
    parent = create_run(store, experiment="digits", name="digits", kind="sweep", tags={"workbench.sweep": "digits"})
    with Search.open(store, sweep, "data", code_for(sweep.base, store)) as search:
        for outcome in ("finished", "pruned", "failed"):
            claim = search.claim()
            assert claim is not None
            tags = {"mlflow.parentRunId": parent, **claim.tags}
            run_id = create_run(store, experiment="digits", name=claim.name, kind="trial", tags=tags)
            with open_run(store, run_id) as run:
                run.log_params({"optimizer.lr": 0.1, "note": "é ✓"})
                points = [("loss", 0.1, 1), ("loss", float("nan"), 2), ("loss", float("inf"), 3), ("zero", -0.0, 1)]
                store.client.log_batch(run_id, [Metric(name, value, 10**12, step) for name, value, step in points])
                data = Dataset("digits-train", "d" * 36, "local", "{}", schema=None, profile='{"images": 7}')
                run.log_inputs([DatasetInput(data, [InputTag("mlflow.data.context", "train")])])
                (run.folder / "plots").mkdir()
                (run.folder / "plots" / "a curve.bin").write_bytes(bytes(range(256)) * 100)
            claim.trial.report(float("nan") if outcome == "failed" else 0.25, step=1)
            settle(search.study, claim.trial, outcome, value=0.5, error="it was NaN")  # type: ignore[arg-type]
    experiment = store.experiment_id("digits")
    model = store.client.create_logged_model(experiment, name="model", source_run_id=run_id, params={"k": "v"})
    store.client.create_registered_model("digits")
    store.client.create_model_version("digits", model.artifact_location, run_id, model_id=model.model_id)
    with open_run(store, parent) as run:
        (run.folder / "leaderboard.csv").write_text("trial,value\n0,0.5\n")
    return store


def seen(uri: str, storage: str) -> dict[str, Any]:
    """All that the stock clients show of a store, but for where artifacts lie."""
    client = MlflowClient(uri)
    experiments = {found.experiment_id: found.name for found in client.search_experiments()}
    runs = {}
    for run in client.search_runs(list(experiments)):
        history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        points = {name: [(p.step, str(p.value), p.timestamp) for p in found] for name, found in history.items()}
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        inputs = [(given.dataset.to_dictionary(), given.tags[0].value) for given in run.inputs.dataset_inputs]
        runs[run.info.run_id] = (info, run.data.params, run.data.tags, points, inputs)
    models = [(model.model_id, model.name, model.params) for model in client.search_logged_models(list(experiments))]
    versions = [(v.name, v.version, v.run_id, v.model_id) for v in client.search_model_versions()]
    study = optuna.load_study(study_name="digits", storage=stock_storage(storage))
    trials = [vars(trial) | {"intermediate_values": str(trial.intermediate_values)} for trial in study.trials]
    told = {"trials": trials, "attributes": study.user_attrs, "direction": study.direction}
    return {"experiments": experiments, "runs": runs, "models": models, "versions": versions, **told}


def with_driver(url: str) -> str:
    """The URL as the stock clients take it."""
    return url.replace("postgresql", "postgresql+psycopg", 1)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def artifact_uris(runs: list[RunSummary], root: str) -> bool:
    """Whether the runs say that their artifacts lie below this root."""
    return {run.artifact_uri for run in runs} == {f"{root}/{run.run_id}/artifacts" for run in runs}


def test_a_store_is_the_same_in_postgresql_behind_a_server_and_back_in_a_folder(
    origin: Store, postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking, storage = postgres.create("runs"), postgres.create("studies")
    away, back = StorePlace(tmp_path / "away", tracking, storage), tmp_path / "back"
    before = seen(origin.tracking_uri, f"sqlite:///{origin.folder}/optuna.db")

    there = copy_store(StorePlace(origin.folder), away, served=True)
    assert {table.table: table.rows for table in there.databases["studies"]}["trials"] == 3
    assert (there.artifacts.files, there.elsewhere) == (8, 0)
    assert seen(with_driver(tracking), with_driver(storage)) == before
    assert files(away.folder / "artifacts") == files(origin.folder / "artifacts")
    assert artifact_uris(list_runs(Store(away.folder, with_driver(tracking))), "mlflow-artifacts:")
    assert copy_store(StorePlace(origin.folder), away, served=True) == there  # finds it there, and the same

    Journal(Store(away.folder, "http://host.invalid"), "not yet there").append(Entry(status="FINISHED"))
    options = ("--from-tracking", tracking, "--from-storage", storage, "--json")
    assert main(["store", "copy", str(away.folder), str(back), *options]) == 0
    printed, said = capsys.readouterr()
    assert postgres.password not in printed + said
    assert f"data of 1 run is queued in {away.folder}/spool for http://host.invalid" in said
    assert json.loads(printed)["artifacts"]["sha256"] == there.artifacts.sha256
    assert seen(f"sqlite:///{back}/mlflow.db", f"sqlite:///{back}/optuna.db") == before
    assert artifact_uris(list_runs(Store.open(back)), (back / "artifacts").as_uri())


def test_a_copy_that_breaks_off_leaves_no_row_and_begins_again(
    origin: Store, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes a value longer than its column; PostgreSQL does not."""
    broken = copy_store_folder(origin.folder, tmp_path / "broken")
    with closing(sqlite3.connect(broken / "mlflow.db")) as database, database:
        database.execute("UPDATE params SET value = ?", ("x" * 9000,))
    tracking, storage = postgres.create("again runs"), postgres.create("again studies")
    away = StorePlace(tmp_path / "away", tracking, storage)
    with pytest.raises(CopyError, match="value too long") as told:
        copy_store(StorePlace(broken), away)
    assert "\n" not in str(told.value)
    assert postgres.password not in str(told.value)
    for url, table in ((tracking, "runs"), (storage, "trials")):
        engine = create_engine(with_driver(url), poolclass=NullPool)
        with engine.connect() as connection:
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0

    assert copy_store(StorePlace(origin.folder), away).artifacts.files == 8
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    store = Store.open(away.folder)
    assert artifact_uris(list_runs(store, sweep="digits"), (away.folder / "artifacts").as_uri())
    taken = {experiment.experiment_id for experiment in store.client.search_experiments()}
    assert store.client.create_experiment("next") not in taken  # numbers go on
    assert optuna.load_study(study_name="digits", storage=stock_storage(with_driver(storage))).ask().number == 3
    with pytest.raises(InputError, match="its runs differ from the source's"):
        copy_store(StorePlace(origin.folder), away)


@pytest.mark.parametrize("kind", ["runs", "studies"])
def test_a_copy_that_is_killed_begins_again(
    origin: Store, postgres: Postgres, tmp_path: Path, start_workbench: Start, kind: str
) -> None:
    tracking, storage = postgres.create(f"runs, {kind} killed"), postgres.create(f"studies, {kind} killed")
    source, away = tmp_path / "source", StorePlace(tmp_path / "away", tracking, storage)
    copy_store_folder(origin.folder, source)
    options = ("--to-tracking", tracking, "--to-storage", storage)
    killed = start_workbench("store", "copy", source, away.folder, *options)
    assert killed.stderr is not None
    assert any(line.startswith(f"copying {kind}") for line in killed.stderr)
    killed.kill()
    killed.wait()
    assert copy_store(StorePlace(source), away).artifacts.files == 8
    before = seen(f"sqlite:///{source}/mlflow.db", f"sqlite:///{source}/optuna.db")
    assert seen(with_driver(tracking), with_driver(storage)) == before


def test_what_cannot_be_copied_is_refused_in_one_line(origin: Store, tmp_path: Path) -> None:
    home, to = StorePlace(origin.folder), tmp_path / "to"
    with pytest.raises(InputError, match=r"neither mlflow\.db nor optuna\.db"):
        copy_store(StorePlace(tmp_path / "nothing"), StorePlace(to))
    with pytest.raises(InputError, match="already holds these runs"):
        copy_store(home, home)
    with pytest.raises(InputError, match=r"--to-tracking: cannot be opened.*127\.0\.0\.1:1") as told:
        copy_store(home, StorePlace(to, "postgresql://me:planted@127.0.0.1:1/db"))
    assert "planted" not in str(told.value)

    old = copy_store_folder(origin.folder, tmp_path / "old")
    with closing(sqlite3.connect(old / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ancient'")
    with pytest.raises(InputError, match=r"TO: is the database of a newer MLflow.*schema ancient"):
        copy_store(home, StorePlace(old))

    run_id = create_run(origin, experiment="digits", name="open", kind="train")
    try:
        with pytest.raises(InputError, match=f"{run_id} is still open"):
            copy_store(home, StorePlace(to))
    finally:
        origin.client.set_terminated(run_id)
    assert not to.exists()
