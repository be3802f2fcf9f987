"""Databases of other versions of MLflow and Optuna: refused by every command as they are, and upgraded on request."""

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import psycopg
import pytest

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.process.owner import Owner
from lightning_modules import InputError
from sweeps.errors import UpgradeError
from sweeps.store_copy import upgrade
from sweeps.store_copy.upgrade import upgrade_store
from sweeps.study.storage import Storage
from tests.old_databases import MLFLOW_2_22, OPTUNA_3_0, make_newer, make_old_mlflow, make_old_optuna, revision
from workbench import main

COMMANDS = [
    ["runs"],
    ["compare", "first", "latest"],
    ["ui", "--no-browser"],
    ["clean"],
    ["clean", "--yes"],
    ["train", "digits"],
    ["train", "--resume", "first"],
    ["sweep", "digits"],
    ["reproduce", "first"],
    ["predict", "first", "picture.png"],
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_old_mlflow(folder / "mlflow.db")
    make_old_optuna(folder / "optuna.db")
    return folder


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """A store whose databases are of MLflow 2.22 and Optuna 3.0."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("mlflow.db", "optuna.db"):
        (folder / name).write_bytes((made / name).read_bytes())
    return folder


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_refuses_an_old_database_and_leaves_it_as_it_is(
    old: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(old)
    assert main([*command, "--store", str(old)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "of an older MLflow than the installed" in line
    assert line.endswith(f"workbench store upgrade --store {old}")
    assert contents(old) == before


@pytest.mark.parametrize("command", [["runs"], ["clean"], ["store", "upgrade"]], ids=lambda words: " ".join(words))
def test_a_newer_database_is_refused_with_another_remedy(
    old: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_newer(old / "mlflow.db")
    before = contents(old)
    assert main([*command, "--store", str(old)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "of a newer MLflow than the installed" in line
    assert line.endswith("install the MLflow that made it, or a newer one")
    assert contents(old) == before


@pytest.mark.parametrize(("change", "word"), [(lambda file: None, "older"), (make_newer, "newer")])
def test_a_database_of_another_optuna_is_refused(old: Path, change: Callable[[Path], None], word: str) -> None:
    change(old / "optuna.db")
    before = contents(old)["optuna.db"]
    (old / "mlflow.db").unlink()
    with pytest.raises(InputError, match=f"of an? {word} Optuna"), Storage(Store.open(old)).open():
        pass
    assert contents(old)["optuna.db"] == before


def test_a_database_elsewhere_is_refused_too(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{old}/mlflow.db")
    before = contents(old)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI: is the database of an older MLflow"):
        _ = Store.open(tmp_path / "store").client
    assert contents(old) == before


def test_an_old_store_is_not_copied(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "copy", str(old), str(tmp_path / "new")]) == 2
    assert f"workbench store upgrade --store {old}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_upgrading_keeps_the_old_databases_and_the_runs_can_be_read(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(old)
    assert main(["store", "upgrade", "--store", str(old), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["upgraded"]
    assert (first["before"], second["before"]) == (MLFLOW_2_22, OPTUNA_3_0)
    for name, each in (("mlflow.db", first), ("optuna.db", second)):
        assert revision(old / name) == each["after"] != each["before"]
        assert revision(Path(each["kept"])) == each["before"]
    assert {path.name for path in old.iterdir() if not path.name.startswith(".")} == {
        *before,
        "mlflow.db.before-upgrade",
        "optuna.db.before-upgrade",
    }
    store = Store.open(old)
    (run,) = store.client.search_runs(["0"])
    assert (run.info.run_name, run.data.metrics) == ("first", {"loss": 0.5})
    with Storage(store).open() as database:
        assert optuna.load_study(study_name="old", storage=database).best_value == 0.5
    for name in before:
        with closing(sqlite3.connect(old / name)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert upgrade_store(old) == []


def test_an_upgrade_that_is_killed_leaves_the_old_database_and_is_repeated(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(database: object, file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DROP TABLE runs")  # half-way
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "_migrated", killed)
        with pytest.raises(KeyboardInterrupt):
            upgrade_store(old)
    assert revision(old / "mlflow.db") == revision(old / "mlflow.db.before-upgrade") == MLFLOW_2_22
    assert len(upgrade_store(old)) == 2
    assert Store.open(old).client.get_run("a" * 32).info.run_name == "first"


def test_an_upgrade_that_fails_leaves_everything_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "INFO: upgrading\nOperationalError: no room\n")
    monkeypatch.setattr(upgrade.subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(UpgradeError, match="as it was: OperationalError: no room"):
        upgrade_store(old)
    assert revision(old / "mlflow.db") == MLFLOW_2_22
    assert not (old / "mlflow.db.before-upgrade").exists()


def test_a_database_in_use_is_not_upgraded(old: Path) -> None:
    with closing(sqlite3.connect(old / "mlflow.db")) as connection:
        connection.execute("SELECT count(*) FROM runs").fetchone()
        with pytest.raises(InputError, match="is in use"):
            upgrade_store(old)
    assert revision(old / "mlflow.db") == MLFLOW_2_22


def test_a_database_with_a_run_that_is_still_open_is_not_upgraded(old: Path) -> None:
    with closing(sqlite3.connect(old / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET status = 'RUNNING'")
        connection.execute(
            "INSERT INTO tags (key, value, run_uuid) VALUES ('workbench.owner', ?, ?)",
            (str(Owner.current()), "a" * 32),
        )
    with pytest.raises(InputError, match="is still open in process"):
        upgrade_store(old)


def test_only_one_of_copy_and_upgrade_takes_folders(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "upgrade", str(old)]) == 2
    assert main(["store", "copy", "--store", str(old)]) == 2
    assert main(["store", "upgrade", "--store", str(old / "nothing")]) == 2
    assert "has neither mlflow.db nor optuna.db" in capsys.readouterr().err


@pytest.mark.parametrize(("version", "word"), [(MLFLOW_2_22, "older"), ("f00d", "newer")])
def test_a_postgresql_database_of_runs_is_checked_too(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, word: str
) -> None:
    url = stamped(postgres, f"runs_{word}", version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    with pytest.raises(InputError, match=f"MLFLOW_TRACKING_URI: is the database of an? {word} MLflow") as told:
        _ = Store.open(tmp_path / "store").client
    assert ("pg_dump" in told.value.remedy) == (word == "older")
    assert postgres.password not in str(told.value)


@pytest.mark.parametrize(("version", "word"), [(OPTUNA_3_0, "older"), ("f00d", "newer")])
def test_a_postgresql_database_of_studies_is_checked_too(
    postgres: Postgres, tmp_path: Path, version: str, word: str
) -> None:
    url = stamped(postgres, f"studies_{word}", version)
    storage = Storage(Store.open(tmp_path / "store"), url)
    with pytest.raises(InputError, match=f"storage: is the database of an? {word} Optuna") as told, storage.open():
        pass
    assert ("pg_dump" in told.value.remedy) == (word == "older")
    assert postgres.password not in str(told.value)


def stamped(postgres: Postgres, name: str, version: str) -> str:
    """Makes a database that says of itself that it has this revision; returns its URL."""
    url = postgres.create(name)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        connection.execute("INSERT INTO alembic_version VALUES (%s)", (version,))
    return url
