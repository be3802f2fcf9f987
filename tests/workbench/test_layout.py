"""What commands print on a terminal of 80 columns: no line is longer, and no name is cut or broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

import workbench
from experiments import Store
from experiments.tracking.lifecycle import create_run
from workbench._layout import new_table, print_fitting, print_prose

Screen = Callable[..., list[str]]
# Lines with a link or a command, which are whole, so that they can be copied.
TO_COPY = ("dashboard ", "artifacts ", "trials ", "model ", "start it ", "next ", f"{'':<11}workbench ")
SWEEP = """
recipe: digits
overrides: {trainer.max_epochs: 1}
space:
  data.augmentation.horizontal_flip: [true, false]
  optimizer.lr: {low: 1.0e-3, high: 1.0e-1, log: true}
  optimizer.schedule.warmup_fraction: {low: 0.01, high: 0.3}
  data.augmentation.rotation: {low: 0.5, high: 20.0}
budget: {trials: 2}
"""


def assert_whole(lines: list[str], names: set[str]) -> None:
    """Asserts that lines fit, and that they hold each name as one word."""
    assert [line for line in lines if len(line.rstrip()) > 80 and not line.startswith(TO_COPY)] == []
    words = {word for line in lines for word in line.split()}
    assert names - words == set()


@pytest.fixture
def as_document(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def read(*words: str | Path) -> dict[str, Any]:
        capsys.readouterr()
        assert workbench.main([*map(str, words), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return read


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory, make_database: Callable[[Path], None]) -> Store:
    """A store with a run of every kind, whose names are long."""
    folder = tmp_path_factory.mktemp("long names")
    make_database(folder)
    store = Store.open(folder)
    for kind in ("train", "reproduction", "comparison"):
        run_id = create_run(store, experiment="e", name=f"{kind} of resnet18-with-a-very-long-name", kind=kind)  # type: ignore[arg-type]
        store.client.log_metric(run_id, "val/accuracy", 0.9876)
        store.client.set_tag(run_id, "workbench.outcome", "interrupted")
        store.client.set_terminated(run_id, "KILLED")
    (folder / "artifacts").mkdir(exist_ok=True)
    return store


def test_runs_have_a_line_each_and_their_names_below(long_names: Store, screen: Screen) -> None:
    lines = screen("runs", "--store", long_names.folder)
    names = {"resnet18-with-a-very-long-name", "reproduction", "interrupted", "val/accuracy", "test/accuracy"}
    assert_whole(lines, names)
    assert len(lines) == 2 + 3 * 2 + 1  # a header and a rule, two lines a run, and space


def test_runs_with_many_columns_are_blocks(long_names: Store, screen: Screen) -> None:
    columns = "val/accuracy,value,val/loss,train/loss,test/loss,val/macro_f1,val/top3_accuracy"
    store = long_names.folder
    for run in long_names.client.search_runs(["1"]):
        for name in columns.split(","):
            long_names.client.log_metric(run.info.run_id, name, 0.5)
    lines = screen("runs", "--columns", columns, "--store", store)
    assert_whole(lines, {*columns.split(","), "resnet18-with-a-very-long-name"})


@pytest.mark.parametrize("options", [[], ["--all"]], ids=["differences", "all"])
def test_compare_breaks_no_name(
    options: list[str], digits_store: Path, second_run: Run, screen: Screen, as_document: Callable[..., dict[str, Any]]
) -> None:
    words = ("compare", "first", "second", *options, "--store", digits_store)
    found = as_document(*words)
    names = {word for row in found["differences"] for word in row["field"].split()}
    # The value of PATH is one long word. It differs if another test has changed it before one of the runs.
    paths = {
        value for row in found["differences"] if "variable PATH" in row["field"] for value in row["values"].values()
    }
    lines = [line for line in screen(*words) if not any(str(path) in line for path in paths)]
    assert_whole(lines, names | {row["name"] for row in found["metrics"]})


def test_a_sweep_breaks_no_name(tmp_path: Path, screen: Screen) -> None:
    (tmp_path / "long.yaml").write_text(SWEEP)
    words = ("sweep", tmp_path / "long.yaml", "--workers", "1", "--store", tmp_path / "store")
    lines = screen(*words)
    assert_whole(lines, {"val/accuracy", "finished", "params"})
    assert sum("horizontal_flip=" in line for line in lines) >= 2
    assert_whole(screen("runs", "--store", tmp_path / "store"), {"finalist", "trial"})
    assert_whole(screen("compare", "long:all", "--store", tmp_path / "store"), {"optimizer.schedule.warmup_fraction"})


def test_training_breaks_no_name(scratch_store: Store, screen: Screen) -> None:
    lines = screen("train", "digits", "--trainer.max_epochs=1", "--store", scratch_store.folder)
    assert_whole(lines, {"throughput/images_per_second", "val/calibration_error"})


@pytest.mark.parametrize("words", [["data", "list"], ["data", "check", "digits"]], ids=" ".join)
def test_data_breaks_no_name(words: list[str], screen: Screen) -> None:
    assert_whole(screen(*words), {"digits"})


def test_a_copied_store_breaks_no_name(long_names: Store, tmp_path: Path, screen: Screen) -> None:
    assert_whole(screen("store", "copy", long_names.folder, tmp_path / "copy"), {"experiments", "latest_metrics"})


def test_nothing_is_cut_or_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["a long folder"] * 60)
    shown = new_table(["input", "label"], ["label"])
    shown.add_row(path, "two words " * 100)
    print_fitting(shown)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if path in line and "two words " * 99 in line]


def test_cells_of_several_lines_are_whole_on_any_width(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen("data", "list")  # from now on, standard output is a terminal
    shown = new_table(["kind", "what", "for example"], ["what", "for example"])
    shown.add_row("leaks", "w" * 64, "12 cat/a.png\n13 cat/b.png")
    print_fitting(shown)
    assert_whole(capsys.readouterr().out.splitlines(), {"w" * 64, "leaks", "cat/a.png", "cat/b.png"})


def test_prose_is_wrapped_between_words(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    screen("data", "list")  # from now on, standard output is a terminal
    shown = new_table(["name", "what it is"], ["what it is"])
    shown.add_row("x" * 30, "word " * 30)
    print_fitting(shown)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    assert sum(line.split().count("word") for line in lines) == 30


def test_what_could_act_on_a_terminal_is_shown_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    shown = new_table(["na\x1bme", "text"], ["text"])
    shown.add_row("\x1b[31m\u202ered", "a\x07\nb")
    shown.caption = "\x9b"
    print_fitting(shown)
    print_prose("\x1b]0;title\x07")
    printed = capsys.readouterr().out
    escaped = ("na\\x1bme", "\\x1b[31m\\u202ered", "a\\x07", "\\x9b", "\\x1b]0;title")
    assert [word for word in escaped if word not in printed] == []
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(printed)


def test_a_name_of_100_000_characters_is_cut(scratch_store: Store, screen: Screen) -> None:
    run_id = create_run(scratch_store, experiment="e", name="\x1b[2J" + "x" * 100_000, kind="train")
    scratch_store.client.set_terminated(run_id, "KILLED")
    lines = screen("runs", "--store", scratch_store.folder)
    assert sum(map(len, lines)) < 10_000
    assert "\x1b" not in "".join(lines)
    scratch_store.client.delete_run(run_id)
