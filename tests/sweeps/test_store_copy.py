"""A store copied to PostgreSQL and back, by the command line and by hand; a real server on loopback."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from sqlalchemy import create_engine, text

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.runs import list_runs
from experiments.tracking import create_run, open_run
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps.databases import Place
from sweeps.stage import settle
from sweeps.store_copy import CopyError, copy_store
from sweeps.study import Search

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a sweep of three trials: one complete, one pruned, one that was NaN; a model; nothing open."""
    store = Store.open(tmp_path_factory.mktemp("origin"))
    sweep = load_sweep("digits", {"budget.trials": 3})
    search = Search.open(store, sweep, "data")
    parent = create_run(store, experiment="digits", name="digits", kind="sweep", tags={"workbench.sweep": "digits"})
    for outcome in ("finished", "pruned", "failed"):
        claim = search.claim()
        assert claim is not None
        run_id = create_run(store, experiment="digits", name=claim.name, kind="trial", parent=parent, tags=claim.tags)
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
    study = optuna.load_study(study_name="digits", storage=storage)
    trials = {"trials": study.trials, "attributes": study.user_attrs, "direction": study.direction}
    return {"experiments": experiments, "runs": runs, "models": models, "versions": versions, **trials}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_is_the_same_in_postgresql_and_back_in_a_folder(
    origin: Store, postgres: Postgres, tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, storage = postgres.create("runs"), postgres.create("studies")
    home, away, back = (Place(origin.folder), Place(tmp_path / "away", tracking, storage), Place(tmp_path / "back"))
    before = seen(origin.tracking_uri, f"sqlite:///{origin.folder}/optuna.db")

    there = copy_store(home, away)
    assert {table.table: table.rows for table in there.databases["studies"]}["trials"] == 3
    assert there.artifacts.files == 4
    driver = "postgresql+psycopg"
    uris = tracking.replace("postgresql", driver, 1), storage.replace("postgresql", driver, 1)
    assert seen(*uris) == before
    assert files(away.folder / "artifacts") == files(origin.folder / "artifacts")
    assert copy_store(home, away) == there  # finds it there, and the same

    options = ("--from-tracking", tracking, "--from-storage", storage, "--json")
    printed = workbench("store", "copy", away.folder, back.folder, *options)
    assert printed.returncode == 0, printed.stderr
    assert postgres.password not in printed.stdout + printed.stderr
    document = json.loads(printed.stdout)
    assert document["artifacts"]["sha256"] == there.artifacts.sha256
    assert seen(f"sqlite:///{back.folder}/mlflow.db", f"sqlite:///{back.folder}/optuna.db") == before

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    store = Store.open(away.folder)
    runs = list_runs(store, sweep="digits")
    assert {run.artifact_uri for run in runs} == {
        (away.folder / "artifacts" / r.run_id / "artifacts").as_uri() for r in runs
    }
    assert store.client.create_experiment("next") not in before["experiments"]  # numbers go on
    study = optuna.load_study(study_name="digits", storage=uris[1])
    assert study.ask().number == 3
    with pytest.raises(InputError, match="holds runs already"):
        copy_store(home, away)


def test_a_copy_that_breaks_off_leaves_no_row_and_begins_again(
    origin: Store, postgres: Postgres, tmp_path: Path
) -> None:
    """SQLite takes a name longer than its column; PostgreSQL does not."""
    broken = Place(tmp_path / "broken")
    copy_store(Place(origin.folder), broken)
    with closing(sqlite3.connect(broken.folder / "mlflow.db")) as database, database:
        database.execute("UPDATE params SET value = value || ?", ("x" * 9000,))
    away = Place(tmp_path / "away", postgres.create("broken runs"), postgres.create("broken studies"))
    with pytest.raises(CopyError, match="value too long") as told:
        copy_store(broken, away)
    assert "\n" not in str(told.value)
    assert postgres.password not in str(told.value)
    for url, table in ((away.tracking, "runs"), (away.storage, "trials")):
        assert url is not None
        with create_engine(url.replace("postgresql", "postgresql+psycopg", 1)).connect() as connection:
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
        connection.engine.dispose()
    assert copy_store(Place(origin.folder), away).artifacts.files == 4


def test_artifacts_are_named_as_a_server_names_them_and_back(origin: Store, tmp_path: Path) -> None:
    copy_store(Place(origin.folder), Place(tmp_path / "served"), served=True)
    copy_store(Place(tmp_path / "served"), Place(tmp_path / "back"))
    for folder, root in (("served", "mlflow-artifacts:"), ("back", (tmp_path / "back/artifacts").as_uri())):
        with closing(sqlite3.connect(tmp_path / folder / "mlflow.db")) as database:
            query = "SELECT run_uuid, artifact_uri FROM runs"
            assert {uri for _, uri in database.execute(query)} == {
                f"{root}/{run_id}/artifacts" for run_id, _ in database.execute(query)
            }


def test_what_cannot_be_copied_is_refused_in_one_line(origin: Store, tmp_path: Path) -> None:
    home = Place(origin.folder)
    with pytest.raises(InputError, match=r"neither mlflow\.db nor optuna\.db"):
        copy_store(Place(tmp_path / "nothing"), Place(tmp_path / "to"))
    with pytest.raises(InputError, match="is where the runs are"):
        copy_store(home, Place(origin.folder))
    with pytest.raises(InputError, match=r"--to-tracking: cannot be opened.*127\.0\.0\.1:1") as told:
        copy_store(home, Place(tmp_path / "to", "postgresql://me:planted@127.0.0.1:1/db"))
    assert "planted" not in str(told.value)
    assert not (tmp_path / "to" / "artifacts").exists()

    copy_store(home, Place(tmp_path / "old"))
    with closing(sqlite3.connect(tmp_path / "old" / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ancient'")
    with pytest.raises(InputError, match=r"at ancient.*mlflow db upgrade"):
        copy_store(home, Place(tmp_path / "old"))

    run_id = create_run(origin, experiment="digits", name="open", kind="train")
    try:
        with pytest.raises(InputError, match=f"{run_id} is still open"):
            copy_store(home, Place(tmp_path / "to"))
    finally:
        origin.client.set_terminated(run_id)
