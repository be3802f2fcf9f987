"""Repeats from the command line: over seeds and over folds, continued, killed, compared, and named as runs."""

import json
import signal
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow.entities import Run
from PIL import Image
from scipy import stats

from experiments import Store, load_config
from experiments.comparison.compare import compare
from experiments.tracking.runs import list_runs, resolve
from lightning_modules import ImageDataModule, InputError
from sweeps import repeat
from tests.stock import stock_storage
from tests.warm_python import WarmPython
from workbench import main

Document = dict[str, Any]

DIGITS = ("train", "digits", "--trainer.max_epochs", "1", "--workers", "1")


def answer(store: Path, *words: str, code: int = 0) -> Document:
    printed = StringIO()
    with redirect_stdout(printed):
        assert main([*words, "--store", str(store), "--json"]) == code
    found: Document = json.loads(printed.getvalue())
    return found


def children(store: Path, document: Document) -> list[Run]:
    client = Store.open(store).client
    return [client.get_run(run["run_id"]) for run in document["runs"]]


def artifact(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repeats") / "store"


@pytest.fixture(scope="module")
def two_seeds(store: Path) -> Document:
    return answer(store, *DIGITS, "--seeds", "2", "--tag", "paper=fig 3", "--notes", "Both seeds.")


@pytest.fixture(scope="module")
def three_seeds(store: Path, two_seeds: Document) -> Document:
    """The same repeats, continued."""
    return answer(store, *DIGITS, "--seeds", "3")


@pytest.fixture(scope="module")
def folds(store: Path) -> Document:
    return answer(store, *DIGITS, "--folds", "2", "--name", "halves")


@pytest.fixture(scope="module")
def slower_folds(store: Path) -> Document:
    return answer(store, *DIGITS, "--folds", "2", "--name", "slower", "--optimizer.lr", "0.0001")


def test_the_document_has_each_seed_and_the_mean_with_student_s_interval(two_seeds: Document) -> None:
    assert [*two_seeds][:4] == ["runs", "mean", "ci95", "parent_run_id"]
    assert [(run["seed"], run["fold"]) for run in two_seeds["runs"]] == [(0, None), (1, None)]
    first, second = (run["value"] for run in two_seeds["runs"])
    mean, margin = (first + second) / 2, stats.t.ppf(0.975, 1) * abs(first - second) / 2  # sd / sqrt 2
    assert two_seeds["mean"] == pytest.approx(mean)
    if first != second:
        assert two_seeds["ci95"] == pytest.approx([max(0, mean - margin), min(1, mean + margin)])
    of_test = [run["test"]["test/accuracy"] for run in two_seeds["runs"]]
    assert two_seeds["test"]["test/accuracy"]["mean"] == pytest.approx(sum(of_test) / 2)


def test_each_child_is_a_whole_run_that_has_read_test_once(store: Path, two_seeds: Document) -> None:
    client = Store.open(store).client
    for run, row in zip(children(store, two_seeds), two_seeds["runs"], strict=True):
        assert run.data.tags["workbench.kind"] == "repeat"
        assert run.data.tags["mlflow.parentRunId"] == two_seeds["parent_run_id"]
        assert run.data.tags["paper"] == "fig 3"
        assert run.info.run_name == f"digits seed {row['seed']}"
        assert run.data.params["seed"] == str(row["seed"])
        assert run.data.metrics["value"] == row["value"]
        assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1
        assert artifact(run, "model").is_dir()


def test_the_parent_shows_the_mean_and_the_curve(store: Path, two_seeds: Document) -> None:
    parent = Store.open(store).client.get_run(two_seeds["parent_run_id"])
    assert (parent.data.tags["workbench.kind"], parent.data.tags["workbench.outcome"]) == ("repeats", "finished")
    assert parent.data.metrics["val/accuracy/mean"] == pytest.approx(two_seeds["mean"])
    assert parent.data.tags["paper"] == "fig 3"
    description = parent.data.tags["mlflow.note.content"]
    assert description.startswith("Both seeds.\n\nval/accuracy ")
    assert all(run["run_id"][:8] in description for run in two_seeds["runs"])
    assert "seed" not in parent.data.params
    with Image.open(artifact(parent, "plots/curves.png")) as picture:
        assert picture.width > 300
    (epoch,) = two_seeds["curve"]
    assert epoch["mean"] == pytest.approx(two_seeds["mean"])


def test_more_seeds_keep_the_first(store: Path, two_seeds: Document, three_seeds: Document) -> None:
    assert three_seeds["parent_run_id"] == two_seeds["parent_run_id"]
    assert three_seeds["runs"][:2] == two_seeds["runs"]
    assert three_seeds["runs"][2]["seed"] == 2
    history = Store.open(store).client.get_metric_history(three_seeds["parent_run_id"], "val/accuracy/mean")
    assert [(point.step, point.value) for point in history] == [(2, two_seeds["mean"]), (3, three_seeds["mean"])]
    assert answer(store, *DIGITS, "--seeds", "3") == three_seeds  # nothing is left to do


def test_other_settings_under_the_same_name_are_refused(
    store: Path, three_seeds: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DIGITS, "--seeds", "3", "--optimizer.lr", "0.5", "--store", str(store)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: optimizer.lr: the repeats digits over seeds were started with ")


def test_folds_are_disjoint_and_together_all_images_but_test(store: Path, folds: Document) -> None:
    assert [(run["seed"], run["fold"]) for run in folds["runs"]] == [(0, 0), (0, 1)]
    served = []
    for run in children(store, folds):
        data = ImageDataModule(load_config(str(artifact(run, "config.yaml"))).data)
        data.setup()
        served.append({name: set(subset.indices.tolist()) for name, subset in data.splits.items()})
    first, second = served
    assert first["test"] == second["test"]
    assert not first["val"] & second["val"]
    assert first["val"] | second["val"] | first["test"] == set(range(1797))


def test_the_interval_of_folds_is_nadeau_and_bengio_s(folds: Document) -> None:
    """Two folds: n_val / n_train is 1, so the variance of the mean is s² (1/2 + 1)."""
    assert folds["overlap"] == 1
    losses = [run["test"]["test/loss"] for run in folds["runs"]]
    margin = stats.t.ppf(0.975, 1) * np.std(losses, ddof=1) * 1.5**0.5
    low, high = folds["test"]["test/loss"]["ci95"]
    assert high == pytest.approx(np.mean(losses) + margin)
    assert low == pytest.approx(max(0, np.mean(losses) - margin))


def test_a_fold_reproduces_by_its_own_record(store: Path, folds: Document) -> None:
    (result,) = answer(store, "reproduce", folds["runs"][1]["run_id"])["results"]
    assert result["verdict"] == "bitwise"


def test_two_cross_validations_are_two_groups_paired_by_fold(
    store: Path, folds: Document, slower_folds: Document
) -> None:
    document = answer(store, "compare", folds["parent_run_id"], slower_folds["parent_run_id"])
    assert {each["name"]: each["run_ids"] for each in document["groups"]} == {
        "halves": [run["run_id"] for run in folds["runs"]],
        "slower": [run["run_id"] for run in slower_folds["runs"]],
    }
    (test,) = document["tests"]
    assert test["name"] == "Nadeau and Bengio's corrected t-test, paired by fold, of test/accuracy"
    assert not [note for note in document["notes"] if "different images" in note]
    means = {each["name"]: each["ci95"] for each in document["groups"]}
    assert means["halves"] == folds["test"]["test/accuracy"]["ci95"]


def test_seeds_and_folds_are_two_groups_that_are_not_paired(
    store: Path, three_seeds: Document, folds: Document
) -> None:
    document = compare(Store.open(store), [three_seeds["parent_run_id"], folds["parent_run_id"]])
    assert {len(each["run_ids"]) for each in document["groups"]} == {2, 3}
    (test,) = document["tests"]
    assert test["name"] == "Nadeau and Bengio's corrected t-test of test/accuracy"


def test_runs_and_selectors_know_repeats(store: Path, three_seeds: Document, folds: Document) -> None:
    opened = Store.open(store)
    assert {run.run_id for run in list_runs(opened, kind="repeats")} >= {
        three_seeds["parent_run_id"],
        folds["parent_run_id"],
    }
    assert [run.run_id for run in resolve(opened, "digits:all")] == [run["run_id"] for run in three_seeds["runs"][::-1]]
    assert len(list_runs(opened, sweep="halves")) == 2


@pytest.mark.parametrize("words", [["evaluate"], ["predict"], ["export"], ["promote"]])
def test_what_needs_a_model_names_the_children(
    words: list[str], store: Path, folds: Document, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"predict": [str(tmp_path / "images.npy")], "export": [str(tmp_path / "exported")]}.get(words[0], [])
    assert main([*words, "halves", *more, "--store", str(store)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "stands for 2 runs" in line
    assert all(f"{run['run_id'][:8]} (halves fold {run['fold']})" in line for run in folds["runs"])


def test_nothing_of_them_is_cleaned_away(store: Path, three_seeds: Document, folds: Document) -> None:
    found = answer(store, "clean", "--only", "trial_checkpoint", "checkpoint", "orphan")
    assert found["items"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "1"], "one run has no spread"),
        (["--seeds", "2", "--folds", "2"], "give --seeds or --folds"),
        (["--seeds", "2", "--resume", "latest"], "the same command continues --seeds"),
        (["--workers", "2"], "--workers is for --seeds and --folds"),
        (["--folds", "500"], "--folds: class '8' has"),
    ],
)
def test_refusals_leave_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", *words, "--store", str(tmp_path / "store")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "store" / "optuna.db").exists() or not optuna.get_all_study_names(
        stock_storage(tmp_path / "store")
    )


def test_a_dry_run_shows_the_first_fold(tmp_path: Path) -> None:
    found = answer(tmp_path / "store", "train", "digits", "--folds", "5", "--dry-run")
    assert (found["config"]["data"]["folds"], found["config"]["data"]["fold"]) == (5, 0)
    assert not (tmp_path / "store").exists()


def test_a_study_of_another_program_is_not_touched(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.ensure_database()
    study = optuna.create_study(study_name="mine seeds", storage=stock_storage(store.folder))
    study.set_user_attr("mine", 1)
    with pytest.raises(InputError, match="is not one of repeats"):
        repeat(load_config("digits"), seeds=2, name="mine", store=store)
    assert study.user_attrs == {"mine": 1}


def test_a_run_that_fails_leaves_no_mean(tmp_path: Path) -> None:
    config = load_config("digits", {"trainer.max_epochs": 1, "optimizer.kind": "sgd", "optimizer.lr": 1e12})
    result = repeat(config, seeds=2, name="wild", store=Store.open(tmp_path / "store"))
    assert (result.mean, result.ci95) == (None, None)
    assert [run["outcome"] for run in result.runs] == ["failed", "failed"]
    assert "0 of 2 seeds gave a score" in result._repr_html_()
    assert len(result.to_pandas()) == 2


def test_a_killed_command_continues_with_exactly_its_children(
    waiting_sweep: tuple[Path, tuple[str | Path, ...]],
    start_workbench: Callable[..., WarmPython],
    workbench: Callable[..., "subprocess.CompletedProcess[str]"],
    poll: Callable[..., Any],
    tmp_path: Path,
) -> None:
    go, _ = waiting_sweep
    words = ("train", "digits", "--model.network", "waiting_net.Net", "--trainer.max_epochs", "3")
    words += ("--seeds", "2", "--workers", "1", "--name", "killed", "--store", str(tmp_path / "store"))
    process = start_workbench(*words)
    poll(lambda: any((tmp_path / "store").glob("artifacts/*/artifacts/checkpoints/last.ckpt")), 240)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go.touch()
    printed = workbench(*words, "--json")
    assert printed.returncode == 0, printed.stderr
    document = json.loads(printed.stdout)
    runs = list_runs(Store.open(tmp_path / "store"))
    assert sorted((run.kind, run.outcome) for run in runs) == [
        ("repeat", "died"),
        ("repeat", "finished"),
        ("repeat", "finished"),
        ("repeats", "finished"),
    ]
    assert [run["outcome"] for run in document["runs"]] == ["finished", "finished"]
    assert [run.run_id for run in resolve(Store.open(tmp_path / "store"), "killed:all")] == [
        run["run_id"] for run in document["runs"][::-1]
    ]
    assert not list((tmp_path / "store").glob("artifacts/*/artifacts/checkpoints/*.new"))
