"""`workbench clean` on real stores: what goes, what stays, and what is left if it is killed on its way."""

import json
import mmap
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import workbench as command_line
from experiments import Store, load_config, rerun, run
from experiments.code import scratch
from experiments.code.scratch import shared_folder
from experiments.errors import Interrupted
from experiments.process.owner import Owner
from experiments.provenance.checks import check
from experiments.provenance.record import read_record
from experiments.provenance.signature import sign_run
from experiments.reproduction import again
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.epochs import Epoch
from experiments.upkeep.clean import KINDS, clean
from sweeps import load_sweep
from sweeps import run as run_sweep
from tests.stores import copy_store_folder
from tests.warm_python import WarmPython
from workbench.clean import _KINDS

SWEEP_MODULE = import_module("sweeps.run")  # `sweeps.run` is the function
SWEEP = {"budget.trials": 3, "trainer.max_epochs": 2, "finalists": {"top": 1, "seeds": 2}}
LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert command_line.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def state(folder: Path) -> dict[str, str]:
    """The hash of every file."""
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def runs_of(store: Path) -> list[Run]:
    client = Store.open(store).client
    found = client.search_runs([each.experiment_id for each in client.search_experiments()], max_results=1000)
    return list(found)


def named(store: Path, name: str) -> Run:
    (found,) = [each for each in runs_of(store) if each.info.run_name == name]
    return found


def of_kind(store: Path, kind: str) -> list[Run]:
    return [each for each in runs_of(store) if each.data.tags["workbench.kind"] == kind]


def folder_of(found: Run) -> Path:
    return Path(found.info.artifact_uri.removeprefix("file://"))


def folders_of_runs(store: Path) -> set[str]:
    """The names of the folders in `artifacts/`, but that of MLflow's logged models."""
    return {path.name for path in (store / "artifacts").iterdir()} - {"models"}


def models_of(store: Path) -> set[tuple[str, str]]:
    """The ids of MLflow's logged models and of their runs."""
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        return set(connection.execute("SELECT model_id, source_run_id FROM logged_models"))


def checkpoints_of(found: Run) -> set[str]:
    return {path.name for path in (folder_of(found) / "checkpoints").glob("*")}


def problems(store: Path, tmp_path: Path) -> dict[str, list[str]]:
    """What is wrong with the record of each run, by its name."""
    opened = Store.open(store)
    found = {}
    for number, each in enumerate(runs_of(store)):
        if each.data.tags["workbench.kind"] != "sweep":
            folder = tmp_path / f"record {len(list(tmp_path.iterdir()))} {number}"
            checked = check(opened, read_record(opened, each.info.run_id, folder))
            assert checked.is_sealed
            found[each.info.run_name] = checked.problems
    return {name: told for name, told in found.items() if told}


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests never touch the user's own caches, nor what other tests leave in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(scratch, "_memory_folder", lambda: tmp_path / "memory")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as earlier versions left them, with everything that can go. It was moved since.

    A sweep whose trials have checkpoints, a run with last.ckpt beside best.ckpt, one that was interrupted, one that
    was deleted, one that started from the weights of trial 0, artifacts of no run, and what killed processes leave.
    """
    store = Store.open(tmp_path_factory.mktemp("built") / "store")
    client = store.client

    def interrupt(epoch: Epoch) -> None:
        raise Interrupted("SIGINT")

    def train(name: str, **fields: Any) -> str:
        given = {"trainer.max_epochs": 2, "trainer.threads": 1} | fields
        return run(load_config("digits", given), name=name, store=store).run_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SWEEP_MODULE, "drop_trial_checkpoints", lambda _store, _run_id: None)
        patch.setattr("experiments.runner.superfluous", lambda *_keep, is_finalist: set())
        result = run_sweep(load_sweep("digits", SWEEP), store=store)
        train("best", **{"trainer.weights": "best"})
        deleted = train("deleted")
        train("warm", **{"model.weights": result.trials[0]["run_id"]})
        with pytest.raises(Interrupted):
            run(
                load_config("digits", {"trainer.max_epochs": 2, "trainer.threads": 1}),
                name="interrupted",
                store=store,
                observers=[interrupt],
            )
    with pytest.MonkeyPatch.context() as patch:  # as if it had been killed between its status and this
        patch.setattr(TrackedRun, "_drop_superfluous", lambda _self, _outcome: None)
        train("spare", **{"trainer.weights": "best"})
    client.delete_run(deleted)
    (store.folder / "artifacts" / ("0" * 32) / "artifacts").mkdir(parents=True)
    (store.folder / "artifacts" / ("0" * 32) / "artifacts" / "config.yaml").write_text("seed: 0\n")
    (store.folder / "artifacts" / result.trials[1]["run_id"] / "artifacts" / "checkpoints" / "new.ckpt").write_text("x")
    gone = f"{replace(Owner.current(), pid=2**22 + 1, key='ff00')}+abc".replace("/", "+")
    (store.folder / "scratch" / gone).mkdir(parents=True)
    (store.folder / "scratch" / gone / "file").write_text("left")
    return store.folder.rename(store.folder.with_name("moved"))


@pytest.fixture
def untidy(built: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    return copy_store_folder(built, tmp_path / "store")


@pytest.fixture
def tidy(untidy: Path) -> Path:
    """A copy of the store, cleaned."""
    clean(untidy)
    return untidy


# What is listed.


def test_a_look_lists_what_can_go_and_changes_no_byte(untidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(untidy)
    document = printed(capsys, "clean", "--store", untidy)
    assert state(untidy) == before
    kinds = [item["what"] for item in document["items"]]
    counts = {kind: kinds.count(kind) for kind in kinds if kind not in ("database", "code")}
    # Of three trials, one has weights that another run started from.
    expected = {"trial_checkpoint": 2, "checkpoint": 2, "deleted_run": 1, "orphan": 1, "temporary": 2}
    assert counts == expected
    assert (document["freed_bytes"], document["removed"]) == (0, False)
    for item in document["items"]:
        assert item["bytes"] > 0 or item["what"] == "code"
        assert Path(item["path"]).is_relative_to(untidy)
        assert Path(item["path"]).exists()


def test_a_look_at_a_database_with_a_log_changes_no_byte(untidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that was killed leaves what it wrote last in a file beside the database."""
    killed = untidy.with_name("killed")
    with closing(sqlite3.connect(untidy / "mlflow.db")) as connection:
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'best'")
        connection.commit()
        assert (untidy / "mlflow.db-wal").stat().st_size > 0
        shutil.copytree(untidy, killed, ignore=shutil.ignore_patterns("*-shm"))
    before = state(killed)
    document = printed(capsys, "clean", "--store", killed)
    assert state(killed) == before
    assert [item["what"] for item in document["items"]].count("deleted_run") == 2


def test_the_table_says_how_to_remove_it(untidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["clean", "--store", str(untidy)]) == 0
    shown = capsys.readouterr().out
    assert f"{untidy}/artifacts/{'0' * 32}" in shown
    assert shown.splitlines()[-1].split(maxsplit=2)[2] == f"workbench clean --yes --store {untidy}"


def test_the_command_knows_every_kind() -> None:
    assert set(_KINDS) == set(KINDS)


def test_only_narrows(untidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(capsys, "clean", "--store", untidy, "--only", "orphan", "--yes")
    assert [item["what"] for item in document["items"]] == ["orphan"]
    assert not (untidy / "artifacts" / ("0" * 32)).exists()
    assert [checkpoints_of(each) for each in of_kind(untidy, "trial")].count({"last.ckpt"}) >= 2


def test_a_folder_that_is_no_store_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for words in ([], ["--yes"]):
        assert command_line.main(["clean", "--store", str(tmp_path / "empty"), *words]) == 2
        assert "has no mlflow.db" in capsys.readouterr().err
    assert list((tmp_path / "empty").iterdir()) == []


# What goes, and what stays.


def test_what_was_listed_goes_and_a_second_time_there_is_nothing(
    untidy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = printed(capsys, "clean", "--store", untidy)["items"]
    size = sum(path.stat().st_size for path in untidy.rglob("*") if path.is_file())
    document = printed(capsys, "clean", "--store", untidy, "--yes")
    files = {item["path"] for item in listed if item["what"] not in ("database", "code")}
    assert {item["path"] for item in document["items"]} >= files
    assert not any(Path(path).exists() for path in files)
    assert document["freed_bytes"] == sum(item["bytes"] for item in document["items"])
    now = sum(path.stat().st_size for path in untidy.rglob("*") if path.is_file())
    assert now < size - 0.9 * document["freed_bytes"]
    assert printed(capsys, "clean", "--store", untidy)["items"] == []


def test_runs_keep_the_weights_that_something_needs(tidy: Path) -> None:
    trials = sorted(of_kind(tidy, "trial"), key=lambda each: int(each.data.tags["workbench.trial"]))
    assert [checkpoints_of(each) for each in trials] == [{"last.ckpt"}, set(), set()]  # `warm` began with the first's
    assert [checkpoints_of(each) for each in of_kind(tidy, "finalist")] == [{"last.ckpt"}] * len(
        of_kind(tidy, "finalist")
    )
    assert checkpoints_of(named(tidy, "best")) == checkpoints_of(named(tidy, "spare")) == {"best.ckpt"}
    assert checkpoints_of(named(tidy, "interrupted")) == {"last.ckpt"}


def test_records_are_true_after_a_removal_and_say_what_went(tidy: Path, tmp_path: Path) -> None:
    assert problems(tidy, tmp_path) == {}
    assert set(json.loads((folder_of(named(tidy, "best")) / "removed.json").read_text())) == {LAST}


def test_every_run_that_remains_reproduces(tidy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "_call", lambda _python, _folder, _environment, job: rerun.answer(rerun.Job(**job)))
    ids = [each.info.run_id for each in runs_of(tidy) if each.data.tags["workbench.kind"] != "sweep"]
    assert command_line.main(["reproduce", *ids, "--epochs", "1", "--store", str(tidy)]) == 0


def test_the_champion_s_model_loads(tidy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{tidy}/mlflow.db")
    client = MlflowClient(f"sqlite:///{tidy}/mlflow.db")
    version = client.get_model_version_by_alias("digits", "champion")
    assert version.run_id is not None
    model = mlflow.pyfunc.load_model(str(folder_of(client.get_run(version.run_id)) / "model"))
    assert len(model.predict(np.zeros((2, 8, 8), np.uint8))["label"]) == 2


def test_an_interrupted_run_is_resumed(tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = ("--trainer.max_epochs", "2", "--trainer.threads", "1")
    document = printed(capsys, "train", "digits", *fields, "--resume", "interrupted", "--store", tidy)
    assert document["outcome"] == "finished"
    lines = (folder_of(named(tidy, "interrupted")) / "trace.jsonl").read_text().splitlines()
    assert [json.loads(line).get("epoch") for line in lines][-2:] == [1, 2]


def test_the_sweep_goes_on_and_does_nothing_twice(tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {each.info.run_id for each in runs_of(tidy)}
    fields = ["--trainer.max_epochs", "2", "--finalists", "{top: 1, seeds: 2}"]
    document = printed(capsys, "sweep", "digits", *fields, "--budget.trials", "3", "--store", tidy)
    assert {each.info.run_id for each in runs_of(tidy)} == before
    assert len(document["finalists"]) == 1
    grown = printed(capsys, "sweep", "digits", *fields, "--budget.trials", "4", "--store", tidy)
    assert [trial["state"] != "RUNNING" for trial in grown["trials"]] == [True] * 4
    assert checkpoints_of(Store.open(tidy).client.get_run(grown["trials"][3]["run_id"])) == set()


def test_compare_compares(tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(capsys, "compare", "digits:champion", "best", "--store", tidy)
    assert document["tests"]
    assert printed(capsys, "compare", "--sweep", "digits", "--store", tidy)["runs"]


def test_a_run_that_wants_weights_that_are_gone_is_told(tidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = next(each for each in of_kind(tidy, "trial") if not checkpoints_of(each)).info.run_id
    words = ["train", "digits", "--model.weights", gone, "--trainer.threads", "1", "--store", str(tidy)]
    assert command_line.main(words) == 2
    told = capsys.readouterr().err
    assert "model.weights: this run has no weights" in told
    assert len(told.splitlines()) == 1


# Records.


def test_what_somebody_else_removes_is_found(tidy: Path, tmp_path: Path) -> None:
    told = "removed after the run was closed"
    (folder_of(named(tidy, "best")) / BEST).unlink()
    (folder_of(named(tidy, "warm")) / "predictions.npz").unlink()
    assert problems(tidy, tmp_path) == {"best": [f"{BEST}: {told}"], "warm": [f"predictions.npz: {told}"]}
    # The list of what the workbench has removed excuses checkpoints alone.
    (folder_of(named(tidy, "warm")) / "removed.json").write_text(json.dumps({"predictions.npz": "now"}))
    assert problems(tidy, tmp_path)["warm"] == [f"predictions.npz: {told}"]


def test_a_checkpoint_that_was_changed_is_found_although_its_removal_is_listed(untidy: Path, tmp_path: Path) -> None:
    """As if `clean` had been killed before it removed the file."""
    Store.open(untidy)
    folder = folder_of(named(untidy, "best"))
    (folder / "removed.json").write_text(json.dumps({LAST: "now"}))
    assert problems(untidy, tmp_path) == {}
    shutil.copyfile(folder / BEST, folder / LAST)
    (folder / LAST).write_bytes((folder / LAST).read_bytes() + b"x")
    assert f"{LAST}: changed after the run was closed" in problems(untidy, tmp_path)["best"]


def test_a_signature_holds_after_a_removal(untidy: Path, tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    store = Store.open(untidy)
    signed = sign_run(store, named(untidy, "best").info.run_id, key)
    clean(untidy)
    assert checkpoints_of(named(untidy, "best")) == {"best.ckpt"}
    checked = check(store, read_record(store, named(untidy, "best").info.run_id, tmp_path / "record"))
    assert (checked.problems, checked.signed_by) == ([], signed["signed_by"])


# Deleted runs.


def test_a_deleted_run_is_gone_for_good(tidy: Path) -> None:
    with closing(sqlite3.connect(tidy / "mlflow.db")) as connection:
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            known = {run_id for (run_id,) in connection.execute(f"SELECT DISTINCT run_uuid FROM {table}")}
            assert known <= {each.info.run_id for each in runs_of(tidy)}
    known = {each.info.run_id for each in runs_of(tidy)}
    assert folders_of_runs(tidy) == known
    models = models_of(tidy)
    assert {run_id for _, run_id in models} < known  # of the runs that have tested a model
    assert {path.name for path in (tidy / "artifacts" / "models").iterdir()} == {model for model, _ in models}


def test_what_mlflow_gc_leaves_is_removed(untidy: Path) -> None:
    Store.open(untidy)
    before = folders_of_runs(untidy)
    uri = f"sqlite:///{untidy}/mlflow.db"
    words = ["-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri]
    assert WarmPython(words).wait() == 0
    clean(untidy)
    known = {each.info.run_id for each in runs_of(untidy)}
    assert len(before) == len(known) + 2  # the deleted run and the artifacts of no run
    assert folders_of_runs(untidy) == known


def test_a_sweep_whose_run_is_gone_for_good_is_refused(untidy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open(untidy).client.delete_run(named(untidy, "digits").info.run_id)
    clean(untidy)
    fields = ["--trainer.max_epochs", "2", "--finalists", "{top: 1, seeds: 2}", "--budget.trials", "3"]
    assert command_line.main(["sweep", "digits", *fields, "--store", str(untidy)]) == 2
    assert "was deleted in MLflow" in capsys.readouterr().err


def test_a_deleted_champion_stays(untidy: Path) -> None:
    client = Store.open(untidy).client
    for each in of_kind(untidy, "finalist"):
        client.delete_run(each.info.run_id)
    clean(untidy)
    champions = json.loads(named(untidy, "digits").data.tags["workbench.champion_run_ids"])
    for run_id in champions:
        client.restore_run(run_id)
        assert (folder_of(client.get_run(run_id)) / "model" / "MLmodel").exists()


def test_artifacts_older_than_the_database_stay(untidy: Path) -> None:
    """They belong to another database, such as a PostgreSQL server's."""
    orphan = untidy / "artifacts" / ("0" * 32)
    for path in orphan.rglob("*"):
        os.utime(path, (1e9, 1e9))
    clean(untidy)
    assert orphan.exists()


def test_artifacts_of_a_database_without_runs_stay(untidy: Path) -> None:
    for path in untidy.glob("mlflow.db*"):
        path.unlink()
    Store.open(untidy).ensure_database()
    before = state(untidy / "artifacts")
    clean(untidy)
    assert state(untidy / "artifacts") == before


# Killed on its way.


CLEAN_AND_DIE = """
import os, pkgutil, signal, sys
from experiments.upkeep.clean import clean

store, owner, function, call, when = sys.argv[1:]
found = pkgutil.resolve_name(owner)
original, calls = getattr(found, function), 0

def deadly(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(call) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(found, function, deadly)
clean(store)
"""


@pytest.mark.parametrize(
    ("owner", "function", "call", "when"),
    [
        ("experiments.upkeep.removal", "list_removals", "1", "before"),
        ("experiments.upkeep.removal", "list_removals", "2", "after"),
        ("experiments.upkeep.removal", "remove_file", "3", "after"),
        ("experiments.upkeep.gone", "remove_path", "1", "before"),  # the rows of the deleted run are gone
        ("experiments.upkeep.item:shutil", "rmtree", "2", "before"),
        ("experiments.upkeep.databases", "closing", "1", "before"),
    ],
)
def test_killed_midway_it_leaves_true_records_and_goes_on_the_next_time(
    untidy: Path, tmp_path: Path, owner: str, function: str, call: str, when: str
) -> None:
    if owner.endswith("databases"):  # make some room
        with closing(sqlite3.connect(Store.open(untidy).folder / "mlflow.db")) as connection, connection:
            connection.execute("CREATE TABLE room AS SELECT hex(randomblob(100000)) AS text FROM runs")
            connection.execute("DROP TABLE room")
    words = ["-c", CLEAN_AND_DIE, str(untidy), owner, function, call, when]
    assert WarmPython(words).wait() == -signal.SIGKILL
    assert problems(untidy, tmp_path) == {}
    with closing(sqlite3.connect(untidy / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    clean(untidy)
    assert problems(untidy, tmp_path) == {}
    assert clean(untidy).items == []
    assert folders_of_runs(untidy) == {each.info.run_id for each in runs_of(untidy)}
    assert checkpoints_of(named(untidy, "best")) == {"best.ckpt"}


def test_a_deleted_run_whose_artifacts_are_elsewhere_stays_and_is_told(
    untidy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    client = Store.open(untidy).client
    experiment = client.create_experiment("elsewhere", artifact_location=(tmp_path / "precious").as_uri())
    outside = client.create_run(experiment).info.run_id
    client.set_terminated(outside)
    client.log_text(outside, "text", "note.txt")
    client.delete_run(outside)
    client.log_text(client.create_run("0").info.run_id, "text", "note.txt")  # at MLflow's own place in the store
    (inside,) = client.search_runs(["0"])
    client.set_terminated(inside.info.run_id)
    client.delete_run(inside.info.run_id)
    document = printed(capsys, "clean", "--store", untidy, "--yes")
    assert len(document["left_out"]) == 1
    assert outside in document["left_out"][0]
    assert (tmp_path / "precious" / outside / "artifacts" / "note.txt").exists()
    assert client.get_run(outside).info.lifecycle_stage == "deleted"
    assert folder_of(inside) == untidy / "artifacts" / "0" / inside.info.run_id / "artifacts"
    assert not folder_of(inside).parent.exists()


# What is at work.


def test_a_run_that_is_running_is_left_alone(
    untidy: Path, start_long_training: Callable[[Path], WarmPython], capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_long_training(untidy)
    (running,) = [each for each in runs_of(untidy) if each.info.status == "RUNNING"]
    (folder_of(running) / "checkpoints" / "new.ckpt").touch()
    document = printed(capsys, "clean", "--store", untidy, "--yes")
    assert not [item for item in document["items"] if running.info.run_id in item["path"]]
    assert document["left_out"] == ["the databases: a run is at work on this store"]
    assert process.stderr is not None
    assert process.stderr.readline().startswith("epoch ")
    assert process.poll() is None


def test_what_killed_processes_left_in_memory_goes_and_what_living_ones_use_stays(tidy: Path) -> None:
    with shared_folder() as folder:
        (folder / "train_images.npy").write_bytes(b"x")
        dead = folder.with_name(folder.name.replace(f"+{os.getpid()}@", f"+{2**22 + 1}@"))
        shutil.copytree(folder, dead)
        assert [item.path for item in clean(tidy).items] == [str(dead)]
        assert folder.exists()
    assert not dead.exists()


def test_caches_go_unless_a_process_has_them_in_memory(tidy: Path, own_caches: Path) -> None:
    pictures = own_caches / "lightning-workbench" / "pictures"
    pictures.mkdir(parents=True)
    used, unused = (pictures / f"{letter * 64}.pixels" for letter in "ab")
    for path in (used, unused):
        path.write_bytes(bytes(5000))
        path.with_suffix(".json").write_text("{}")
    kept = [pictures.with_name(name) for name in ("remembered", "hashes")]  # the second by an earlier version
    for folder in kept:
        folder.mkdir()
        (folder / "abc").write_text("def")
    (pictures.with_name("fashion_mnist")).mkdir()
    (pictures.with_name("fashion_mnist") / "images.gz").write_text("downloaded")
    with used.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        paths = {item.path for item in clean(tidy).items}
    assert paths == {str(unused), *map(str, kept)}
    assert sorted(path.name for path in pictures.iterdir()) == [used.with_suffix(".json").name, used.name]
    assert (pictures.with_name("fashion_mnist") / "images.gz").exists()


# A server.


def test_on_a_server_the_checkpoints_go_and_the_rest_is_said(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    store = Store.open(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(SWEEP_MODULE, "drop_trial_checkpoints", lambda _store, _run_id: None)
        result = run_sweep(load_sweep("digits", SWEEP | {"budget.trials": 1}, name="served"), store=store)
    trial = result.trials[0]["run_id"]
    listed = printed(capsys, "clean", "--store", tmp_path / "store")
    ours = [item for item in listed["items"] if trial in item["path"]]
    assert [item["what"] for item in ours] == ["trial_checkpoint"]
    assert ours[0]["bytes"] > 100_000
    assert len(listed["left_out"]) == 2
    printed(capsys, "clean", "--store", tmp_path / "store", "--yes")
    assert not [file for file in store.client.list_artifacts(trial, "checkpoints") if file.path == LAST]
    assert check(store, read_record(store, trial, tmp_path / "record")).problems == []
    assert result.champion is not None
    for run_id in result.champion["run_ids"]:
        assert [file.path for file in store.client.list_artifacts(run_id, "checkpoints")] == [LAST]
