"""The command line: exit codes, what goes to which stream, one line for bad input."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import workbench as command_line
from experiments import Store

HEAVY = {"torch", "mlflow", "optuna", "pytorch_lightning", "rich", "numpy", "yaml", "pydantic", "ray"}


def main(*args: str | Path) -> int:
    return command_line.main([str(arg) for arg in args])


# Help.


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["compare", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys, workbench
try:
    workbench.main({words!r})
except SystemExit as end:
    assert end.code == 0
print("imported:", *sorted({HEAVY!r} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("usage: workbench")
    assert ended.stdout.endswith("imported:\n")


@pytest.mark.parametrize("command", ["train", "runs", "compare", "ui", "data"])
def test_help_names_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main("--help")
    assert f"\n    {command} " in capsys.readouterr().out


# train.


def test_train_with_json_prints_one_document_and_nothing_else(
    digits_printed: "subprocess.CompletedProcess[str]",
) -> None:
    document = json.loads(digits_printed.stdout)
    keys = {"run_id", "name", "status", "outcome", "metrics", "artifact_uri", "dashboard_url"}
    assert keys <= set(document)
    assert (document["name"], document["status"], document["outcome"]) == ("first", "FINISHED", "finished")
    assert digits_printed.returncode == 0


def test_train_prints_an_epoch_a_line_on_standard_error(digits_printed: "subprocess.CompletedProcess[str]") -> None:
    lines = digits_printed.stderr.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1/3", "2/3", "3/3"]


def test_train_says_nothing_but_its_epochs_on_standard_error(
    digits_printed: "subprocess.CompletedProcess[str]",
) -> None:
    assert [line for line in digits_printed.stderr.splitlines() if not line.startswith("epoch ")] == []


def test_train_s_document_tells_what_the_store_holds(
    digits_printed: "subprocess.CompletedProcess[str]", first_run: Run
) -> None:
    document = json.loads(digits_printed.stdout)
    assert document["run_id"] == first_run.info.run_id
    assert document["artifact_uri"] == first_run.info.artifact_uri
    own = {name: value for name, value in first_run.data.metrics.items() if not name.startswith("system/")}
    assert document["metrics"] == own
    page = f"/#/experiments/{first_run.info.experiment_id}/runs/{first_run.info.run_id}?"
    assert page in document["dashboard_url"]


def test_train_shows_metrics_run_id_and_link(
    tmp_path: Path, scratch_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = np.zeros((60, 6, 6), np.uint8), np.arange(60) % 2
    images[labels == 1] = 200
    np.savez(tmp_path / "own.npz", x=images, y=labels)
    words = ("--data.path", tmp_path / "own.npz", "--trainer.max_epochs=1", "--store", scratch_folder)
    assert main("train", "arrays", *words) == 0
    shown = capsys.readouterr().out
    assert "test/accuracy" in shown
    assert "(arrays, finished)" in shown
    assert "http://127.0.0.1:5000/#/experiments/" in shown


def test_train_obeys_its_overrides(first_run: Run) -> None:
    assert first_run.data.params["trainer.max_epochs"] == "3"


def test_a_run_that_diverges_exits_1(scratch_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        "train", "digits", "--optimizer.kind", "sgd", "--optimizer.lr", "1e30", "--store", scratch_folder, "--json"
    )
    assert code == 1
    printed = capsys.readouterr()
    assert "optimizer.lr" in json.loads(printed.out)["error"]["message"]
    assert "optimizer.lr" in printed.err.splitlines()[-1]


# runs, compare, data.


@pytest.fixture
def two_runs(digits_store: Path, first_run: Run, second_run: Run) -> Path:
    """The store that holds `first`, then `second`."""
    return digits_store


def printed_json(capsys: pytest.CaptureFixture[str], *args: str | Path) -> Any:
    assert main(*args, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_runs_lists_the_newest_first(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = printed_json(capsys, "runs", "--store", two_runs)["runs"]
    assert [run["name"] for run in runs] == ["second", "first"]
    keys = {"run_id", "name", "kind", "status", "outcome", "start_time", "metrics", "params"}
    assert all(keys <= set(run) for run in runs)


def test_runs_filters(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = printed_json(capsys, "runs", "--store", two_runs, "--filter", "params.seed = '0'")["runs"]
    assert [run["name"] for run in runs] == ["first"]


def test_runs_shows_a_table(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("runs", "--store", two_runs) == 0
    shown = capsys.readouterr().out
    assert shown.index("second") < shown.index("first")


def test_compare_tells_what_differs(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed_json(capsys, "compare", "first", "second", "--store", two_runs)
    assert {"runs", "differences", "metrics", "dashboard_url"} <= set(document)
    assert [row["field"] for row in document["differences"]] == ["optimizer.lr", "seed"]
    assert "test/accuracy" in [row["name"] for row in document["metrics"]]


def test_compare_shows_a_table(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("compare", "first", "latest", "--store", two_runs) == 0
    shown = capsys.readouterr().out
    assert "optimizer.lr" in shown
    assert "optimizer.kind" not in shown
    assert "(exact McNemar test of test/accuracy)" in shown


def test_data_list_names_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"digits", "arrays", "fashion_mnist"} <= set(printed_json(capsys, "data", "list")["sources"])


# Bad input.

# id, words, the error's field and value, and what its message and remedy must hold.
BAD_INPUT: list[tuple[str, list[str], str, Any, list[str]]] = [
    ("unknown recipe", ["train", "digitz"], "RECIPE", "digitz", ["did you mean 'digits'"]),
    ("unknown field", ["train", "digits", "--optimizer.lrr", "1"], "optimizer.lrr", 1, ["did you mean 'optimizer.lr'"]),
    ("wrong type", ["train", "digits", "--trainer.max_epochs", "many"], "trainer.max_epochs", "many", ["an integer"]),
    ("no choice", ["train", "digits", "--optimizer.kind", "adamm"], "optimizer.kind", "adamm", ["'adam'", "adamw"]),
    ("negative learning rate", ["train", "digits", "--optimizer.lr", "-0.1"], "optimizer.lr", -0.1, ["above 0"]),
    (
        "network that does not import",
        ["train", "digits", "--model.network", "no_such_file.Net"],
        "model.network",
        "no_such_file.Net",
        ["No module named 'no_such_file'"],
    ),
    (
        "network args that do not fit",
        ["train", "digits", "--model.network_args.depth", "3"],
        "model.network_args.depth",
        3,
        ["no such argument", "choose from filters, hidden"],
    ),
    (
        "missing data root",
        ["train", "fashion_mnist", "--data.root", "/no/such/folder"],
        "data.root",
        "/no/such/folder",
        ["no such folder"],
    ),
    (
        "missing data file",
        ["train", "arrays", "--data.path", "/no/such/file.npz"],
        "data.path",
        "/no/such/file.npz",
        ["no such file"],
    ),
    ("no data path", ["train", "arrays"], "data.path", None, ["--data.path FILE"]),
    ("null", ["train", "digits", "--seed", "null"], "seed", None, ["an integer"]),
    ("override without a value", ["train", "digits", "--optimizer.lr"], "optimizer.lr", None, ["no value"]),
    (
        "override followed by another",
        ["train", "digits", "--optimizer.lr", "--seed", "3"],
        "optimizer.lr",
        None,
        ["no value"],
    ),
    ("stray word", ["train", "digits", "stray"], "command line", None, ["stray"]),
    ("no recipe", ["train"], "command line", None, ["RECIPE"]),
    ("unknown run", ["compare", "nosuchrun", "latest"], "RUN", "nosuchrun", ["workbench runs"]),
    ("nothing to compare", ["compare"], "command line", None, ["two runs"]),
    ("unknown sweep", ["compare", "--sweep", "nightly"], "--sweep", "nightly", ["workbench runs"]),
    ("bad filter", ["runs", "--filter", "val > > 1"], "--filter", "val > > 1", ["metrics.`val/accuracy` > 0.9"]),
    ("no limit", ["runs", "--limit", "0"], "command line", None, ["--limit", "'0'"]),
    ("unknown flag", ["runs", "--bogus"], "command line", None, ["--bogus"]),
    ("unknown command", ["trian", "digits"], "command line", None, ["'trian'", "'train'"]),
    ("no command", [], "command line", None, ["COMMAND"]),
    ("nothing to fetch", ["data", "fetch"], "NAME", None, ["workbench data list"]),
    ("unknown data set", ["data", "fetch", "mnisst"], "data.source", "mnisst", ["did you mean 'mnist'"]),
    ("data set that needs no download", ["data", "fetch", "digits"], "NAME", "digits", ["workbench data list"]),
    ("no port", ["ui", "--port", "99999"], "--port", 99999, ["0-65535"]),
]
bad_input = pytest.mark.parametrize(
    ("words", "field", "value", "told"), [pytest.param(*case, id=name) for name, *case in BAD_INPUT]
)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which no run is ever made."""
    return Store.open(tmp_path_factory.mktemp("empty")).folder


def main_in(store: Path, words: list[str], *options: str) -> int:
    """The command with store and options right behind its name, so that a flag that ends `words` stays the last."""
    return main(words[0], "--store", store, *options, *words[1:]) if words else main(*options)


def runs_in(store: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


@bad_input
def test_bad_input_is_told_in_one_line_and_leaves_no_run(
    words: list[str], field: str, value: Any, told: list[str], empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_in(empty_store, words) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {field}: ")
    assert f"(got {value!r}); " in line or field == "command line"
    assert [text for text in told if text not in line] == []
    assert printed.out == ""
    assert runs_in(empty_store) == []


@bad_input
def test_bad_input_with_json_is_an_error_document(
    words: list[str], field: str, value: Any, told: list[str], empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_in(empty_store, words, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"field", "value", "message", "remedy"}
    assert (error["field"], error["value"]) == (field, value)
    assert [text for text in told if text not in f"{error['message']}; {error['remedy']}"] == []


def test_a_store_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main("train", "digits", "--store", tmp_path / "file" / "store") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--store" in line
    assert str(tmp_path / "file" / "store") in line


def test_a_network_whose_file_is_broken_is_told_in_one_line(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_network.py").write_text("class Net(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main("train", "digits", "--model.network", "broken_network.Net", "--store", empty_store) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken_network.Net" in line


def test_a_port_in_use_exits_2(scratch_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main("ui", "--port", port, "--store", scratch_folder) == 2
    assert f"(got {port})" in capsys.readouterr().err.splitlines()[-1]


def test_a_process_exits_with_the_code_and_one_line(
    workbench: Callable[..., "subprocess.CompletedProcess[str]"], empty_store: Path
) -> None:
    ended = workbench("train", "digits", "--optimizer.lr", "-1", "--store", empty_store)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
