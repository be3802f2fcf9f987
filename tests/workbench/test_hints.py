"""Commands that are printed as hints can be pasted: they name the store in use, and are quoted for a shell."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import workbench
from experiments import Store
from experiments.errors import Interrupted
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.store import command_on


def test_a_command_names_the_store_unless_it_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_on("mlruns", "runs") == "workbench runs"
    assert command_on(tmp_path / "mlruns", "runs") == "workbench runs"
    assert command_on(tmp_path / "my runs", "runs") == "workbench runs --store 'my runs'"
    assert command_on("/other/mlruns", "predict", "latest", "a b.png") == (
        "workbench predict latest 'a b.png' --store /other/mlruns"
    )


@pytest.fixture
def odd_store(tmp_path: Path, make_database: Callable[[Path], None]) -> Path:
    """A store whose folder no shell takes unquoted."""
    folder = tmp_path / "it's $HOME"
    make_database(folder)
    return Store.open(folder).folder


def pasted(command: str) -> int:
    program, *words = shlex.split(command)
    assert program == "workbench"
    return workbench.main(words)


@pytest.mark.parametrize(
    "words", [["compare", "nosuchrun", "latest"], ["reproduce", "nosuchrun"], ["compare", "--sweep", "nosuchsweep"]]
)
def test_the_command_that_lists_the_runs_works(
    words: list[str], odd_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(Store.open(odd_store), experiment="e", name="here", kind="train")
    assert workbench.main([*words, "--store", str(odd_store), "--json"]) == 2
    remedy = json.loads(capsys.readouterr().out)["error"]["remedy"]
    assert pasted(remedy.partition("to list the runs: ")[2]) == 0
    assert "here" in capsys.readouterr().out


def test_an_interrupted_run_tells_how_to_resume_it(odd_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.open(odd_store)
    run_id = create_run(store, experiment="e", name="stopped", kind="train")
    with pytest.raises(Interrupted), open_run(store, run_id):
        raise Interrupted("SIGINT")
    command = capsys.readouterr().err.strip().partition("to resume it: ")[2]
    assert shlex.split(command) == ["workbench", "train", "--resume", run_id[:8], "--store", str(odd_store)]


def test_the_commands_after_training_work(
    odd_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert workbench.main(["train", "digits", "--trainer.max_epochs=1", "--store", str(odd_store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(line for line in lines if line.startswith("start it "))
    assert shlex.split(start)[2:] == ["workbench", "ui", "--store", str(odd_store)]
    commands = [line[11:] for line in lines[-3:]]
    assert [shlex.split(command)[1] for command in commands] == ["compare", "reproduce", "predict"]
    assert pasted(commands[1]) == 0  # it is run again
    assert pasted(commands[0].replace("RUN", "digits")) == 2  # a run is not compared with itself alone
    assert "name 1" in capsys.readouterr().err
