"""Stores that are moved: every address of artifacts follows, in both forms, unless the old place still exists."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from experiments import Store
from experiments.tracking.lifecycle import create_run, open_run
from tests.stores import copy_store_folder


@pytest.fixture
def origin(tmp_path: Path) -> Store:
    """A store with a run, a logged model, and a registered version; the default experiment has a bare path."""
    store = Store.open(tmp_path / "old place" / "store")
    run_id = create_run(store, experiment="digits", name="one", kind="train")
    with open_run(store, run_id) as run:
        run.path("notes.txt").write_text("found\n")
    model = store.client.create_logged_model(store.experiment_id("digits"), name="model", source_run_id=run_id)
    store.client.create_registered_model("digits")
    store.client.create_model_version("digits", model.artifact_location, run_id, model_id=model.model_id)
    return store


def addresses(folder: Path) -> list[str]:
    asked = (
        "SELECT artifact_location FROM experiments UNION ALL SELECT artifact_uri FROM runs "
        "UNION ALL SELECT artifact_location FROM logged_models UNION ALL SELECT source FROM model_versions"
    )
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return [address for (address,) in connection.execute(asked)]


def test_all_addresses_follow_a_store_that_was_moved(
    origin: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    before = addresses(origin.folder)
    assert len({address.startswith("file://") for address in before}) == 2
    moved = origin.folder.rename(tmp_path / "new place ü")
    store = Store.open(moved)
    uri, path = (moved / "artifacts").as_uri(), str(moved / "artifacts")
    old_uri, old_path = (origin.folder / "artifacts").as_uri(), str(origin.folder / "artifacts")
    assert addresses(moved) == [address.replace(old_uri, uri).replace(old_path, path) for address in before]
    (run,) = store.client.search_runs(["1"])
    assert Path(store.client.download_artifacts(run.info.run_id, "notes.txt")).read_text() == "found\n"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "was moved" in line]
    assert line == f"{moved} was moved: the addresses of 1 runs were adapted"
    Store.open(moved)
    assert "was moved" not in capsys.readouterr().err


def test_a_copy_beside_the_original_is_left_alone(origin: Store, tmp_path: Path) -> None:
    before = addresses(origin.folder)
    copy = copy_store_folder(origin.folder, tmp_path / "copy")
    Store.open(copy)
    assert addresses(copy) == before


def test_artifacts_on_a_disk_that_is_away_are_left_alone(origin: Store, tmp_path: Path) -> None:
    """An experiment whose folder is gone, with no run of it in this store."""
    away = (tmp_path / "away" / "artifacts").as_uri()
    with closing(sqlite3.connect(origin.folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'digits'", (away,))
        connection.execute("UPDATE runs SET artifact_uri = ? || '/RUN/artifacts'", (away,))
    before = addresses(origin.folder)
    Store.open(origin.folder)
    assert addresses(origin.folder) == before
