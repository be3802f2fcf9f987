"""`workbench train`: a dry run, tags and notes, and resuming a run by its name alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

import workbench
from experiments import Store, load_config, run
from experiments.training.epochs import Epoch

Screen = Callable[..., list[str]]
TWO_EPOCHS = {"trainer.max_epochs": 2, "trainer.threads": 1}
NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))
"""


def break_off(epoch: Epoch) -> None:
    raise RuntimeError("the power failed")


def document(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert workbench.main([str(word) for word in (*words, "--json")]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def named(store: Store, name: str) -> Run:
    (found,) = store.client.search_runs(
        [each.experiment_id for each in store.client.search_experiments()], f"attributes.run_name = '{name}'"
    )
    return found


# A dry run.


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "train", "digits", "--dry-run", "--seed", "7", "--store", tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    assert (found["config"]["seed"], found["config"]["optimizer"]["lr"]) == (7, 0.003)
    assert {split: part["count"] for split, part in found["splits"].items()} == {"train": 1293, "val": 144, "test": 360}
    assert (found["steps_per_epoch"], found["memory_format"]) == (41, "channels_last")  # 1293 images, 32 at a time


def test_a_dry_run_tells_the_learning_rate_of_each_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizer.schedule.kind=step", "--optimizer.schedule.step_fraction=0.5", "--trainer.max_epochs=4"]
    rates = document(capsys, "train", "digits", "--dry-run", *words, "--store", tmp_path / "store")["learning_rates"]
    assert [rate["epoch"] for rate in rates] == [1, 2, 3, 4]
    assert [rate["first"] for rate in rates] == pytest.approx([0.003, 0.003, 0.0003, 0.0003])
    assert [rate["last"] for rate in rates] == pytest.approx([0.003, 0.003, 0.0003, 0.0003])


def test_a_dry_run_of_very_many_epochs_tells_some_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--dry-run", "--trainer.max_epochs=1000000", "--store", tmp_path / "store"]
    for schedule in ("constant", "cosine"):
        rates = document(capsys, *words, f"--optimizer.schedule.kind={schedule}")["learning_rates"]
        assert (len(rates), rates[0]["epoch"], rates[-1]["epoch"]) == (1000, 1, 10**6)
    path = "torch.optim.lr_scheduler.ConstantLR"
    found = document(capsys, *words, f"--optimizer.schedule.kind={path}")
    assert found["learning_rates"] == []
    assert found["rates_unknown"].startswith("the schedule would be tried for all 41,000,000 steps")


def test_a_schedule_of_torch_steps_once_an_epoch_in_a_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "torch.optim.lr_scheduler.ExponentialLR"
    words = [f"--optimizer.schedule.kind={kind}", "--optimizer.schedule.args.gamma=0.5"]
    words += ["--optimizer.schedule.interval=epoch", "--trainer.max_epochs=3"]
    rates = document(capsys, "train", "digits", "--dry-run", *words, "--store", tmp_path / "store")["learning_rates"]
    assert [rate["last"] for rate in rates] == pytest.approx([0.003, 0.0015, 0.00075])


def test_a_dry_run_refuses_what_a_run_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.network", "torch.nn.Linear", "--model.network_args", "{in_features: 8, out_features: 3}"]
    error = document(capsys, "train", "digits", "--dry-run", *words, "--store", tmp_path / "store", code=2)["error"]
    assert error["field"] == "model.network"
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_from_the_weights_of_a_run_needs_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.weights", "first", "--store", tmp_path / "store"]
    error = document(capsys, "train", "digits", "--dry-run", *words, code=2)["error"]
    assert (error["field"], error["message"]) == ("model.weights", f"there are no runs in {tmp_path / 'store'}")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_a_recipe_and_a_curve_on_80_columns(tmp_path: Path, screen: Screen) -> None:
    lines = screen("train", "digits", "--dry-run", "--trainer.max_epochs=100", "--store", tmp_path / "store")
    assert "  max_epochs: 100" in lines
    assert max(map(len, lines)) <= 80
    epochs = [int(line.split()[0]) for line in lines if line.rstrip().endswith("█")]
    assert (len(epochs), epochs[0], epochs[-1]) == (20, 1, 100)


# Tags and notes.


def test_a_run_has_the_user_s_tags_and_notes_above_its_description(
    scratch_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--tag", "project=a/b", "--tag", "paper=x=1", "--notes", "A first try.", "--trainer.max_epochs=1"]
    document(capsys, "train", "digits", "--name", "tagged", *words, "--store", scratch_store.folder)
    tags = named(scratch_store, "tagged").data.tags
    assert (tags["project"], tags["paper"]) == ("a/b", "x=1")
    assert tags["mlflow.note.content"].startswith("A first try.\n\n**")
    assert "**val/accuracy " in tags["mlflow.note.content"]


def test_tags_and_notes_survive_a_failure_and_a_resume(
    scratch_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"tags": {"project": "a"}, "notes": "Mind the seed."}
    config = load_config("digits", TWO_EPOCHS)
    with pytest.raises(RuntimeError):
        run(config, name="broken off", store=scratch_store, observers=[break_off], **given)
    tags = named(scratch_store, "broken off").data.tags
    assert tags["workbench.outcome"] == "failed"
    assert tags["mlflow.note.content"].startswith("Mind the seed.\n\n**Failed:** RuntimeError")
    words = ["--resume", "broken off", "--tag", "machine=b", "--store", scratch_store.folder]
    assert document(capsys, "train", *words)["outcome"] == "finished"
    tags = named(scratch_store, "broken off").data.tags
    assert (tags["project"], tags["machine"]) == ("a", "b")
    assert tags["mlflow.note.content"].startswith("Mind the seed.\n\n**")
    assert "**val/accuracy " in tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("words", "field", "told"),
    [
        (["--tag", "workbench.kind=sweep"], "--tag", "is reserved"),
        (["--tag", "mlflow.user=me"], "--tag", "is reserved"),
        (["--tag", "a//b=1"], "--tag", "is no name for a tag"),
        (["--tag", "é%=1"], "--tag", "is no name for a tag"),
        (["--tag", "project"], "command line", "'project' is not NAME=VALUE"),
        (["--notes", "x" * 4001], "--notes", "more than 4,000 characters"),
    ],
)
def test_wrong_tags_and_notes_are_refused(
    words: list[str], field: str, told: str, scratch_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = document(capsys, "train", "digits", *words, "--store", scratch_folder, code=2)["error"]
    assert error["field"] == field
    assert told in error["message"]


# Resuming a run without its recipe.


def test_a_run_is_resumed_by_its_name_alone(
    tmp_path: Path, scratch_store: Store, workbench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net_beside_recipe.py").write_text(NETWORK)
    recipe = tmp_path / "beside.yaml"
    recipe.write_text("model: {network: net_beside_recipe.Net}\ndata: {source: digits}\noptimizer: {lr: 0.02}\n")
    with pytest.raises(RuntimeError):
        run(load_config(str(recipe), TWO_EPOCHS), name="to resume by name", store=scratch_store, observers=[break_off])
    words = ("--resume", "to resume by name", "--store", scratch_store.folder, "--json")
    ended = workbench("train", *words)  # in a process that knows no such folder
    resumed = named(scratch_store, "to resume by name")
    assert (ended.returncode, resumed.data.tags["workbench.outcome"]) == (0, "finished"), ended.stderr
    assert (resumed.data.params["optimizer.lr"], resumed.data.params["trainer.max_epochs"]) == ("0.02", "2")
    assert json.loads(ended.stdout)["run_id"] == resumed.info.run_id


def test_a_run_of_a_store_that_is_not_trusted_is_not_resumed(
    scratch_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError):
        run(load_config("digits", TWO_EPOCHS), name="foreign", store=scratch_store, observers=[break_off])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # where the stores of this user are remembered
    words = ["train", "--resume", "foreign", "--store", scratch_store.folder]
    assert document(capsys, *words, code=2)["error"]["field"] == "--trust"
    assert named(scratch_store, "foreign").data.tags["workbench.outcome"] == "failed"
    assert document(capsys, *words, "--trust")["outcome"] == "finished"


def test_what_a_resumed_run_began_with_cannot_be_changed(
    scratch_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError):
        run(load_config("digits", TWO_EPOCHS), name="fixed", store=scratch_store, observers=[break_off])
    words = ["--resume", "fixed", "--optimizer.lr", "0.5", "--store", scratch_store.folder]
    error = document(capsys, "train", *words, code=2)["error"]
    assert (error["field"], error["message"]) == ("optimizer.lr", "the run started with 0.003")


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "give a RECIPE, or a run to continue"), (["digits", "--dry-run", "--resume", "x"], "leave --resume out")],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    words: list[str], told: str, scratch_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in document(capsys, "train", *words, "--store", scratch_folder, code=2)["error"]["message"]
