"""Messages say what is the case: each was once misleading."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import workbench
from experiments import Store
from experiments.errors import StoreError
from experiments.tracking import store as store_module
from experiments.tracking.lifecycle import create_run

Refused = Callable[..., dict[str, Any]]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], scratch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command on 80 columns that must exit 2 with one line, and returns its error."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: str | Path, store: Path = scratch_folder) -> dict[str, Any]:
        capsys.readouterr()
        given = [str(word) for word in words]
        options = [] if given[0] == "data" else ["--store", str(store)]
        assert workbench.main([*given, *options, "--json"]) == 2
        printed = capsys.readouterr()
        assert printed.err.splitlines()[-1].startswith("error: ")
        error: dict[str, Any] = json.loads(printed.out)["error"]
        return error

    return run


# Fields of other libraries, and fields that are near only because their sections have long names.


@pytest.mark.parametrize(
    ("field", "guess"),
    [
        ("trainer.gpus", "trainer.accelerator"),
        ("trainer.callback", "trainer.callbacks"),
        ("trainer.lr", "optimizer.lr"),
        ("trainer.epochs", "trainer.max_epochs"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("epochs", "trainer.max_epochs"),
        ("data.augmentation.flip", "data.augmentation.horizontal_flip"),
    ],
)
def test_the_field_that_was_meant_is_named(field: str, guess: str, refused: Refused) -> None:
    error = refused("train", "digits", f"--{field}", "1")
    assert (error["message"], error["remedy"].partition("? ")[0]) == ("no such field", f"did you mean {guess!r}")


@pytest.mark.parametrize("field", ["trainer.zzz", "trainer.workers"])
def test_no_field_is_named_if_none_was_meant(field: str, refused: Refused) -> None:
    assert refused("train", "digits", f"--{field}", "1")["remedy"] == "to list the fields: workbench fields"


def test_a_gpu_that_is_missing_is_said_to_be_missing(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = refused("train", "digits", "--trainer.accelerator", "cuda")
    assert (error["field"], error["message"]) == (
        "trainer.accelerator",
        "torch finds no such device on this machine",
    )
    assert "exact" not in error["remedy"]
    assert refused("train", "digits", "--trainer.accelerator", "gpu")["remedy"].startswith("did you mean 'cuda'?")


# Files and folders.


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A CSV, arrays of Python objects, and arrays with a label that only val has."""
    images = np.zeros((6, 4, 4), np.uint8)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    np.savez(tmp_path / "objects.npz", x=images, y=np.array([{}] * 6, dtype=object))
    val = {"x_val": images, "y_val": np.array([0, 1, 2, 3, 0, 1])}
    np.savez(tmp_path / "unknown.npz", x_train=images, y_train=np.array([0, 1, 2, 0, 1, 2]), **val)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table.csv", "cannot be read as NumPy arrays: it is neither a .npy nor a .npz file"),
        ("objects.npz", "cannot be read as NumPy arrays: it holds Python objects, which are not unpickled"),
        ("unknown.npz", "y_val has labels that train does not have, such as 3"),
        ("folder", "is a folder"),
        ("missing.npz", "no such file"),
    ],
)
def test_a_file_is_described_as_it_is(name: str, message: str, files: Path, refused: Refused) -> None:
    error = refused("train", "arrays", "--data.path", files / name)
    assert (error["field"], error["value"], error["message"]) == ("data.path", str(files / name), message)


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        (["train", "image_folder", "--data.path"], "data.path", "no such folder"),
        (["data", "check"], "NAME-OR-PATH", "no such file, folder or data set"),
        (["predict", "first"], "FILE", "no such file or folder"),
    ],
)
def test_a_folder_that_is_missing_is_not_called_a_file(
    words: list[str], field: str, message: str, files: Path, refused: Refused, digits_store: Path
) -> None:
    error = refused(*words, files / "nosuch", store=digits_store)
    assert (error["field"], error["message"]) == (field, message)


# The address of the tracking server.


class Address(NamedTuple):
    uri: str
    message: str


@pytest.mark.parametrize(
    "address",
    [
        Address("localhost:5000", "is neither a server's address nor a database's"),
        Address("foo://bar", "is neither a server's address nor a database's"),
        Address("./mlruns", "is neither a server's address nor a database's"),
        Address("http://127.0.0.1:9", "MLflow cannot open it: the tracking server is unreachable (ConnectionError)"),
    ],
    ids=lambda address: str(address.uri),
)
def test_a_wrong_address_is_blamed_on_its_variable(
    address: Address, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.uri)
    monkeypatch.setattr(Store, "persist", lambda self, do: do())  # it would wait for the server
    error = refused("runs", store=tmp_path)
    assert (error["field"], error["value"], error["message"]) == ("MLFLOW_TRACKING_URI", address.uri, address.message)


# Names that no run has.


@pytest.fixture
def store_with_a_run(scratch_store: Store) -> Path:
    run_id = create_run(scratch_store, experiment="names", name="named", kind="train")
    scratch_store.client.log_metric(run_id, "val/my_score", 1.0)
    return scratch_store.folder


@pytest.mark.parametrize(
    ("option", "name", "guess"),
    [
        ("--sort", "val/my_scor", "val/my_score"),
        ("--sort", "optimizer.lr", None),  # a param
        ("--columns", "val/acuracy", "val/accuracy"),
        ("--columns", "seed,optimizer.lrr", "optimizer.lr"),
    ],
)
def test_an_unknown_name_is_not_ignored(
    option: str, name: str, guess: str | None, store_with_a_run: Path, refused: Refused
) -> None:
    error = refused("runs", option, name)
    assert (error["field"], error["value"]) == (option, name.split(",")[-1])
    assert ("did you mean" in error["remedy"]) == (guess is not None)
    assert guess is None or error["remedy"].startswith(f"did you mean {guess!r}?")


@pytest.mark.parametrize("option", [["--sort", "val/my_score"], ["--columns", "val/loss, seed"], ["--sort=val/loss"]])
def test_a_name_that_runs_have_or_may_have_is_accepted(option: list[str], store_with_a_run: Path) -> None:
    assert workbench.main(["runs", *option, "--store", str(store_with_a_run)]) == 0


# Recipes of the other kind.

RECIPES: Mapping[str, str] = {
    "experiment": "data: {source: digits}\n",
    "sweep": "recipe: digits\nspace: {optimizer.lr: [0.1, 0.01]}\n",
}


@pytest.mark.parametrize(("command", "kind"), [("train", "sweep"), ("sweep", "train")])
def test_a_recipe_of_the_other_kind_is_told_with_its_command(
    command: str, kind: str, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my recipe.yaml").write_text(RECIPES["sweep" if kind == "sweep" else "experiment"])
    error = refused(command, "my recipe.yaml", store=tmp_path / "s")
    assert error["field"] == "RECIPE"
    assert error["message"].startswith("is a sweep's" if kind == "sweep" else "is an experiment's")
    assert error["remedy"] == f"run it with: workbench {kind} 'my recipe.yaml' --store s"


@pytest.mark.parametrize(
    ("command", "name", "other"), [("train", "fashion_mnist_optimizers", "sweep"), ("sweep", "arrays", "train")]
)
def test_a_built_in_recipe_of_the_other_kind_is_told_too(command: str, name: str, other: str, refused: Refused) -> None:
    assert refused(command, name)["remedy"].startswith(f"run it with: workbench {other} {name} --store ")


# A full disk.


@pytest.mark.parametrize(("free", "suffix"), [(10**9, ""), (0, " (the disk is full)")], ids=["space", "full"])
def test_a_full_disk_is_named_only_if_it_is_full(
    free: int, suffix: str, scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StoreError) as raised, scratch_store.telling_failures():
        raise sqlite3.OperationalError("disk I/O error")
    assert raised.value.message == f"{scratch_store.folder} failed: disk I/O error{suffix}"


# Hostile input.


@pytest.mark.parametrize("url", ["mysql://", "mysql://u:secret@127.0.0.1/x", "postgresql://[", "mssql://x"])
def test_a_database_of_runs_that_cannot_be_opened_is_named(
    url: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    error = refused("runs")
    assert error["field"] == "MLFLOW_TRACKING_URI"
    assert "secret" not in json.dumps(error)


@pytest.mark.parametrize("url", ["mysql://", "postgresql://[", "\x1b://"])
def test_a_database_of_studies_that_cannot_be_opened_is_named(url: str, refused: Refused) -> None:
    assert refused("sweep", "digits", "--storage", json.dumps(url))["field"] == "storage"


@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits", "--name", "caf\udce9"),
        ("train", "digits", "--notes", "\ud800"),
        ("train", "digits", "--tag", "a=\ud800"),
        ("train", "digits", "--experiment", "\udcff"),
        ("train", "\udcff" * 3),
        ("train", "x" * 5_000),
        ("sweep", "digits", "--name", "\udcff"),
        ("runs", "--limit", "9" * 5_000),
        ("runs", "--filter", "\ud800"),
        ("compare", "\ud800", "x" * 100_000),
        ("predict", "latest", "x" * 5_000),
        ("data", "check", "x" * 5_000),
        ("data", "check", "\udcff"),
        ("clean", "--only", "\x1b[31m"),
    ],
    ids=lambda words: " ".join(words)[:20].encode("ascii", "backslashreplace").decode(),
)
def test_words_that_nothing_can_hold_are_bad_input(words: tuple[str, ...], refused: Refused) -> None:
    assert refused(*words)["remedy"]
