"""`workbench evaluate` on real runs, and what `workbench compare` then says about them."""

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run
from PIL import Image
from sklearn.datasets import load_digits

import workbench
from experiments import Store, load_config, run
from experiments.comparison.compare import compare
from experiments.comparison.report import report
from experiments.comparison.statistics import wilson_interval
from experiments.comparison.text import robustness_verdicts
from experiments.evaluation.corruptions import CORRUPTIONS
from experiments.tracking.runs import resolve
from experiments.tracking.seal import broken
from tests.stores import copy_store_folder
from tests.svg import read_page

SWEEP = """
recipe: digits
overrides: {trainer.max_epochs: 1, trainer.threads: 1}
space: {optimizer.lr: [0.01, 0.02]}
budget: {trials: 1}
finalists: {top: 1, seeds: 2, baseline: true}
"""


def call(*words: str | Path) -> dict[str, Any]:
    """Runs a command, and returns its document."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert workbench.main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


@pytest.fixture(scope="module")
def store(digits_store: Path, second_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of the store with the runs `first` and `second`, into which these tests write."""
    folder = tmp_path_factory.mktemp("evaluate") / "store"
    return Store.open(copy_store_folder(digits_store, folder))


@pytest.fixture(scope="module")
def evaluated(store: Store) -> dict[str, dict[str, Any]]:
    return {name: call("evaluate", name, "--store", store.folder) for name in ("first", "second")}


@pytest.fixture(scope="module")
def champion(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The evaluation of a sweep's champion, two seeds, and of the recipe's own settings."""
    recipe = tmp_path_factory.mktemp("recipe") / "small.yaml"
    recipe.write_text(SWEEP)
    call("sweep", recipe, "--workers", "1", "--store", store.folder)
    return call("evaluate", "small:champion", "--store", store.folder)


def folder_of(store: Store, run_id: str) -> Path:
    return Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_accuracy_is_that_of_the_run_with_wilsons_interval(store: Store, evaluated: dict[str, dict[str, Any]]) -> None:
    document = evaluated["first"]
    run = store.client.get_run(document["run_id"])
    assert (run.info.run_name, document["notes"]) == ("first", [])
    value = run.data.metrics["test/accuracy"]
    assert document["accuracy"]["value"] == pytest.approx(value)
    assert document["accuracy"]["ci95"] == list(wilson_interval(round(360 * value), 360))
    assert document["calibration_error"] == pytest.approx(run.data.metrics["test/calibration_error"], abs=1e-5)
    assert document["calibration"]["temperature"] > 0
    assert sum(row["images"] for row in document["calibration"]["bins"]) == 360
    table = json.loads((folder_of(store, document["run_id"]) / "class_scores.json").read_text())["data"]
    recalls = {row[1]: row[3] for row in table if row[0] == "test"}
    assert {row["class"]: row["accuracy"] for row in document["classes"]} == pytest.approx(recalls)


def test_every_corruption_has_five_strengths_each_harder_than_the_one_before(
    evaluated: dict[str, dict[str, Any]],
) -> None:
    rows = evaluated["first"]["corruptions"]
    assert [(row["name"], row["strength"]) for row in rows] == [(n, s) for n in CORRUPTIONS for s in range(1, 6)]
    means = [np.mean([row["accuracy"] for row in rows if row["strength"] == strength]) for strength in range(1, 6)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < means[0] < evaluated["first"]["accuracy"]["value"]
    for row in rows:
        assert row["ci95"] == list(wilson_interval(round(360 * row["accuracy"]), 360))
    errors = evaluated["first"]["corruption_error"]
    assert errors["mean"] == pytest.approx(1 - np.mean([row["accuracy"] for row in rows]))


def test_it_is_a_run_of_its_own_and_the_record_of_the_other_stays_as_it_was(
    store: Store, evaluated: dict[str, dict[str, Any]]
) -> None:
    document = evaluated["first"]
    run, about = (store.client.get_run(document[name]) for name in ("evaluation_run_id", "run_id"))
    assert (run.data.tags["workbench.kind"], run.info.status) == ("evaluation", "FINISHED")
    assert run.data.tags["workbench.evaluates"] == document["run_id"]
    assert about.data.tags["workbench.evaluated_by"] == document["evaluation_run_id"]
    assert run.data.metrics["evaluation/accuracy"] == document["accuracy"]["value"]
    history = store.client.get_metric_history(run.info.run_id, "corrupted/noise")
    values = [row["accuracy"] for row in document["corruptions"] if row["name"] == "noise"]
    assert [(point.step, point.value) for point in history] == list(enumerate(values, 1))
    kept = folder_of(store, run.info.run_id)
    assert json.loads((kept / "evaluation.json").read_text())["corruptions"] == document["corruptions"]
    folder = folder_of(store, about.info.run_id)
    assert list(broken(json.loads((folder / "record.json").read_text()), about, folder)) == []


def test_latest_is_no_evaluation(store: Store, evaluated: dict[str, dict[str, Any]]) -> None:
    assert resolve(store, "latest")[0].kind != "evaluation"
    assert {run["kind"] for run in call("runs", "--kind", "evaluation", "--store", store.folder)["runs"]} == {
        "evaluation"
    }


def test_the_page_shows_what_the_document_says(store: Store, evaluated: dict[str, dict[str, Any]]) -> None:
    document = evaluated["first"]
    shown = read_page(Path(document["page"]).read_text())
    assert shown.headings == ["evaluation of first", "Robustness", "Calibration", "Class by class", "In MLflow"]
    assert f"accuracy {document['accuracy']['value']:.4f}" in shown.text
    assert len(shown.addresses) == 35
    assert all(address.startswith("data:image/png;base64,") for address in shown.addresses)
    drawn = [label for label in shown.charts if label.startswith("Accuracy at five strengths of")]
    assert len(drawn) == len(CORRUPTIONS)
    rows = {row[0]: row for row in shown.rows if row}
    errors = document["corruption_error"]["by_corruption"]
    for name, each in CORRUPTIONS.items():
        assert rows[f"{name}{each.summary}"][-1] == f"{errors[name]:.4f}"


def test_seeds_of_a_champion_are_averaged_compared_and_set_against_the_own_settings(
    store: Store, champion: dict[str, Any]
) -> None:
    runs = [store.client.get_run(run_id) for run_id in champion["run_ids"]]
    values = [run.data.metrics["test/accuracy"] for run in runs]
    assert len(values) == 2
    assert champion["accuracy"]["value"] == pytest.approx(np.mean(values))
    labels = []
    for run_id in champion["run_ids"]:
        with np.load(folder_of(store, run_id) / "predictions.npz") as said:
            labels.append(said["test_label"])
    assert champion["agreement"]["all"] == pytest.approx((labels[0] == labels[1]).mean())
    for each in champion["agreement"]["disagreements"]:
        assert each["labels"] == [of_seed[each["index"]] for of_seed in labels]
    sweep = call("runs", "--kind", "sweep", "--store", store.folder)["runs"][0]
    board = json.loads((folder_of(store, sweep["run_id"]) / "leaderboard.json").read_text())
    errors = champion["corruption_error"]
    assert errors["against_run_ids"] == ([] if board["champion"]["number"] is None else board["baseline"]["run_ids"])
    if errors["against"] is not None:
        assert errors["relative_ci95"][0] <= errors["relative"] <= errors["relative_ci95"][1]
    shown = read_page(Path(champion["page"]).read_text())
    assert "Agreement of the seeds" in shown.headings
    assert len(shown.addresses) == 35 + len(champion["agreement"]["disagreements"])
    lines = [line.rpartition(" --store")[0] for _, line in board["commands"]]
    assert f"workbench evaluate {sweep['name']}:champion" in lines


def test_errors_are_relative_to_a_run_that_is_named(store: Store, evaluated: dict[str, dict[str, Any]]) -> None:
    document = call("evaluate", "first", "--against", "second", "--store", store.folder)
    errors, other = document["corruption_error"], evaluated["second"]["corruption_error"]
    own = evaluated["first"]["corruption_error"]["by_corruption"]
    ratios = {name: own[name] / other["by_corruption"][name] for name in own}
    assert errors["relative_by_corruption"] == pytest.approx(ratios)
    assert errors["relative"] == pytest.approx(np.mean(list(ratios.values())))


def test_compare_shows_the_robustness_of_two_evaluated_runs(
    store: Store, evaluated: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    runs = [resolve(store, name)[0] for name in ("first", "second")]
    document = compare(store, runs)
    found = document["robustness"]
    names = {each["run_id"]: name for name, each in evaluated.items()}
    assert [row["name"] for row in found["rows"]] == ["clean", *CORRUPTIONS, "corrupted"]
    for row in found["rows"][1:-1]:
        for run_id in found["between"]:
            error = evaluated[names[run_id]]["corruption_error"]["by_corruption"][row["name"]]
            assert row["values"][run_id]["mean"] == pytest.approx(1 - error)
    last = found["rows"][-1]
    first, second = (evaluated[names[run_id]]["corruption_error"]["mean"] for run_id in found["between"])
    assert last["difference"] == pytest.approx(second - first)
    assert last["ci95"][0] <= last["difference"] <= last["ci95"][1]
    assert "robust" in robustness_verdicts(document)[0]
    report(store, runs, document, html=str(tmp_path / "page.html"), log=False)
    assert "Robustness" in read_page((tmp_path / "page.html").read_text()).headings


def test_compare_without_evaluations_or_on_other_images_says_so(
    store: Store, evaluated: dict[str, dict[str, Any]], champion: dict[str, Any], test_file: Path
) -> None:
    unevaluated = call("train", "digits", "--trainer.max_epochs", "1", "--name", "bare", "--store", store.folder)
    assert compare(store, ["first", unevaluated["run_id"]])["robustness"] is None
    call("evaluate", "bare", "--data", test_file, "--store", store.folder)
    document = compare(store, ["first", "bare"])
    assert document["robustness"] is None
    assert "robustness is not compared: the runs were evaluated on different images" in document["notes"]


@pytest.fixture(scope="module")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    digits = load_digits()
    path = tmp_path_factory.mktemp("own") / "own.npz"
    np.savez(path, x=digits.images[:200].astype(np.uint8), y=digits.target[:200])
    return path


def test_images_of_the_users_own(store: Store, test_file: Path) -> None:
    document = call("evaluate", "first", "--data", test_file, "--store", store.folder)
    answers = call("predict", "first", test_file, "--store", store.folder)["predictions"]
    right = np.mean([answer["label"] for answer in answers] == load_digits().target[:200])
    assert document["data"]["images"] == 200
    assert document["data"]["origin"] == str(test_file)
    assert document["accuracy"]["value"] == pytest.approx(right)


def test_images_of_another_size_are_scaled_for_a_run_that_only_kept_its_checkpoint(
    store: Store, tmp_path: Path
) -> None:
    overrides = {"trainer.max_epochs": 3, "trainer.threads": 1}
    run(load_config("digits", overrides), name="twin", store=store, read_test=False)  # has the weights of `first`
    digits = load_digits()
    large = digits.images[:200].astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2)
    np.savez(tmp_path / "large.npz", x=large, y=digits.target[:200])
    words = ("evaluate", "first", "--against", "twin", "--data", tmp_path / "large.npz")
    document = call(*words, "--store", store.folder)
    for row in document["corruptions"]:
        assert row["against"] == pytest.approx(row["accuracy"], abs=0.01)
    assert document["corruption_error"]["relative"] == pytest.approx(1, abs=0.02)


def test_a_folder_of_pictures(store: Store, tmp_path: Path) -> None:
    digits = load_digits()
    for number in range(20):
        path = tmp_path / "pictures" / str(digits.target[number]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[number].astype(np.uint8)).save(path)
    document = call("evaluate", "first", "--data", tmp_path / "pictures", "--store", store.folder)
    assert document["data"]["images"] == 20
    assert document["accuracy"]["value"] > 0.8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 8, 8), np.uint8), "y": np.array([0, 1, 2, 77])}, "has the class 77, which the model does"),
        ({"x": np.zeros((4, 8, 8), np.float32), "y": np.arange(4)}, "holds float32 images of 1 channel, but the model"),
        ({"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.arange(4)}, "holds uint8 images of 3 channels, but the model"),
        ({"x": np.full((4, 8, 8), np.nan, np.float32), "y": np.arange(4)}, "holds float32 images"),
        ({"x": np.zeros((4, 8, 8), np.uint8)}, "the images need labels"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(
    arrays: dict[str, Any], message: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    capsys.readouterr()
    words = ["evaluate", "first", "--data", str(tmp_path / "own.npz"), "--store", str(store.folder)]
    assert workbench.main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith("error: --data: ")
    assert message in line


def test_it_fits_a_terminal_and_the_verdict_comes_first(
    store: Store, evaluated: dict[str, dict[str, Any]], screen: Callable[..., list[str]]
) -> None:
    for words in (["evaluate", "first"], ["compare", "first", "second"]):
        lines = screen(*words, "--store", store.folder)
        to_copy = ("dashboard", "start it", "next", "page", " " * 11 + "workbench")
        assert [line for line in lines if len(line.rstrip()) > 80 and not line.startswith(to_copy)] == []
        assert re.match(r"(first|second) \(", lines[0])
    assert any(line.startswith("rotation") for line in lines)
