"""What differs between runs, and whether their difference is real."""

import json
import re
import shutil
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from mlflow.entities import Metric, Param, Run, RunTag
from PIL import Image
from sklearn.datasets import load_digits

import workbench as command_line
from experiments import Store, load_config, run
from experiments.code.kept import keep_code
from experiments.code.portable import located
from experiments.comparison.compare import compare
from experiments.comparison.report import report
from experiments.comparison.text import labels, verdicts
from experiments.provenance.packages import installed
from experiments.tracking.lifecycle import RunKind, create_run
from experiments.tracking.runs import RunSummary, list_runs, resolve
from lightning_modules import ImageDataModule, InputError
from tests.projects import begin_again, copy_project, work_in
from tests.svg import read_page
from tests.sweeps.report.documents import swept

CNN = "lightning_modules/networks/baseline_cnn.py"


def compared(store: Store, *names: str, **options: Any) -> dict[str, Any]:
    return compare(store, summaries(store, *names), **options)


def summaries(store: Store, *names: str) -> list[RunSummary]:
    return [found for name in names for found in resolve(store, name)]


# Two runs on digits, of other learning rate and seed.


@pytest.fixture(scope="module")
def comparison(digits_store: Path, first_run: Run, second_run: Run) -> dict[str, Any]:
    return compared(Store.open(digits_store), "first", "second")


def of_the_runs(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The differences, without the files that pytest read in this process while the runs ran."""
    return [row for row in document["differences"] if row["kind"] != "unrecorded"]


def test_only_what_differs_is_shown(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    one, two = first_run.info.run_id, second_run.info.run_id
    assert comparison["differences"] == [
        {"field": "optimizer.lr", "kind": "param", "values": {one: "0.003", two: "0.001"}},
        {"field": "seed", "kind": "param", "values": {one: "0", two: "1"}},
    ]


def test_all_rows_are_shown_on_demand(digits_store: Path, comparison: dict[str, Any]) -> None:
    rows = compared(Store.open(digits_store), "first", "second", show_all=True)["differences"]
    fields = {(row["kind"], row["field"]) for row in rows}
    assert {("param", "optimizer.kind"), ("package", "numpy"), ("data", "data"), ("hardware", "cpu")} <= fields
    assert [row for row in rows if len(set(map(str, row["values"].values()))) > 1] == comparison["differences"]


def test_metrics_are_shown_side_by_side(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    rows = {row["name"]: row for row in comparison["metrics"]}
    runs = {run.info.run_id: run.data.metrics for run in (first_run, second_run)}
    assert rows["test/accuracy"]["values"] == {run_id: metrics["test/accuracy"] for run_id, metrics in runs.items()}
    best = min(runs, key=lambda run_id: runs[run_id]["test/loss"])
    assert rows["test/loss"]["best"] == [best]


def test_runs_that_read_test_are_tested_on_its_images(
    comparison: dict[str, Any], first_run: Run, second_run: Run
) -> None:
    right = {}
    for each in (first_run, second_run):
        with np.load(Path(each.info.artifact_uri.removeprefix("file://")) / "predictions.npz") as said:
            right[each.info.run_id] = said["test_label"] == said["test_target"]
    (test,) = comparison["tests"]
    first, second = (right[run_id] for run_id in test["between"])
    assert (test["first_only"], test["second_only"]) == ((first & ~second).sum(), (second & ~first).sum())
    assert (test["metric"], test["images"]) == ("test/accuracy", 360)
    assert test["difference"] == pytest.approx(first.mean() - second.mean())
    assert test["ci95"][0] <= test["difference"] <= test["ci95"][1]


def test_a_comparison_is_a_table(digits_store: Path, first_run: Run, second_run: Run) -> None:
    store = Store.open(digits_store)
    document = compare(store, ["first", second_run.info.run_id])
    assert document == compared(store, "first", "second")
    shown = document._repr_html_()
    assert "<tr><td>optimizer.lr</td><td>0.003</td><td>0.001</td></tr>" in shown
    assert verdicts(document)[0] in shown
    table = document.to_pandas()
    assert list(table["run_id"]) == [place["run_id"] for place in document["ranking"]]
    assert set(table["optimizer.lr"]) == {"0.003", "0.001"}
    assert list(table["test/accuracy"]) == [place["score"] for place in document["ranking"]]


def test_the_link_names_both_runs(comparison: dict[str, Any], first_run: Run, second_run: Run) -> None:
    link = unquote(comparison["dashboard_url"])
    assert f'runs=["{first_run.info.run_id}","{second_run.info.run_id}"]' in link


# Runs of a copy of the project, on a small data set of the user's own.


def install(site: Path, version: str) -> None:
    """The distribution wb-layers, in this version."""
    shutil.rmtree(site, ignore_errors=True)
    info = site / f"wb_layers-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wb-layers\nVersion: {version}\n")
    installed.cache_clear()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, scratch_folder: Path) -> Iterator[Store]:
    """The runs `base` and `same`; `seed`, of another one; and `planted`: another param, code line, package, byte."""
    folder = tmp_path_factory.mktemp("planted")
    project, store = folder / "project", Store.open(scratch_folder)
    project.mkdir()
    copy_project(project)
    digits = load_digits()
    images, labels = digits.images[:300].astype(np.uint8), digits.target[:300]

    def train(name: str, **overrides: Any) -> None:
        np.savez(folder / f"{name}.npz", x=images, y=labels)
        fields = {"data.path": str(folder / f"{name}.npz"), "trainer.threads": 1, "trainer.max_epochs": 1}
        run(load_config("arrays", fields | overrides), name=name, store=store)

    with pytest.MonkeyPatch.context() as patch:
        work_in(project, patch)
        patch.syspath_prepend(folder / "site-packages")
        install(folder / "site-packages", "1.0")
        train("base")
        train("same")
        train("seed", seed=1)
        install(folder / "site-packages", "1.1")
        images[7, 3, 3] += 1
        text = (project / CNN).read_text()
        (project / CNN).write_text(text.replace("F.relu(self.hidden", "F.gelu(self.hidden"))
        begin_again()
        train("planted", **{"optimizer.lr": 0.01})
        yield store
    installed.cache_clear()
    begin_again()


def test_what_was_planted_is_shown_and_nothing_else(planted: Store) -> None:
    differences = of_the_runs(compared(planted, "base", "planted"))
    rows = {row["kind"]: list(row["values"].values()) for row in differences}
    fields = [row["field"] for row in differences]
    assert fields == ["optimizer.lr", fields[1], "data", "wb-layers"]
    assert re.fullmatch(rf"{CNN}:\d+", fields[1])
    assert rows["param"] == ["0.001", "0.01"]
    assert [value.count("gelu") for value in rows["code"]] == [0, 1]
    assert all(len(value) == 64 for value in rows["data"])
    assert rows["package"] == ["1.0", "1.1"]


def test_runs_on_other_data_are_not_compared_image_by_image(planted: Store) -> None:
    document = compared(planted, "base", "planted")
    assert document["tests"] == []
    told = "val and test scores are on different images and cannot be compared: their data differ: "
    assert document["notes"][0].startswith(told)
    starred = [row["name"] for row in document["metrics"] if row["best"]]
    assert [name for name in starred if not name.startswith("throughput")] == []


def test_identical_runs_are_not_distinguishable(planted: Store) -> None:
    document = compared(planted, "base", "same")
    assert of_the_runs(document) == []
    (test,) = document["tests"]
    assert (test["difference"], test["p_value"], test["distinguishable"]) == (0, 1, False)
    assert "are not distinguishable: test/accuracy differs by 0.0000" in verdicts(document)[0]


def test_the_scratch_folder_is_left_empty(planted: Store) -> None:
    compared(planted, "base", "planted")
    assert list((planted.folder / "scratch").iterdir()) == []


def test_code_that_the_store_has_lost_is_told_as_such(planted: Store, tmp_path: Path) -> None:
    moved = tmp_path / "code.git"
    (planted.folder / "code.git").rename(moved)
    try:
        document = compared(planted, "base", "planted")
    finally:
        moved.rename(planted.folder / "code.git")
    (row,) = [row for row in document["differences"] if row["kind"] == "code"]
    assert row["field"] == "commit"
    assert len(set(row["values"].values())) == 2
    assert "the store has no code.git" in document["notes"][1]


def test_answers_are_counted_from_the_runs_predictions(planted: Store) -> None:
    document = compared(planted, "base", "seed")
    answers, test = document["answers"], document["tests"][0]
    assert answers["runs"] == test["between"]
    assert answers["right_alone"] == [test["first_only"], test["second_only"]]
    left = {each.run_id: folder_of(each) for each in summaries(planted, "base", "seed")}
    one, other = (np.load(left[run_id] / "predictions.npz") for run_id in answers["runs"])
    target, counts = one["test_target"], np.zeros((10, 10), int)
    for predictions, sign in ((one, 1), (other, -1)):
        np.add.at(counts, (target, predictions["test_label"]), sign)
    assert answers["confusion"] == counts.tolist()
    for predictions, recall in zip((one, other), answers["recall"], strict=True):
        right = predictions["test_label"] == target
        assert recall == [pytest.approx(right[target == number].mean()) for number in range(10)]
    gaps = []
    for each in answers["disagreements"]:
        index, is_right = each["index"], [label == each["target"] for label in each["labels"]]
        assert sorted(is_right) == [False, True]
        assert each["target"] == target[index]
        sure = [answer["test_probabilities"][index] for answer in (one, other)]
        assert each["probabilities"] == [
            pytest.approx(float(p[label]), abs=1e-4) for p, label in zip(sure, each["labels"], strict=True)
        ]
        gaps.append(abs(sure[0][target[index]] - sure[1][target[index]]))
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) == min(24, sum(answers["right_alone"]))


def test_the_page_shows_what_the_document_says_and_asks_nothing_from_elsewhere(planted: Store, tmp_path: Path) -> None:
    document = compared(planted, "base", "seed")
    more = report(planted, summaries(planted, "base", "seed"), document, html=str(tmp_path / "page.html"), log=True)
    page = (tmp_path / "page.html").read_text()
    shown, answers = read_page(page), document["answers"]
    data = ImageDataModule(load_config(str(folder_of(summaries(planted, "base")[0]) / "config.yaml")).data)
    data.setup()
    subset = data.splits["test"]
    for address, each in zip(shown.addresses, answers["disagreements"], strict=True):
        assert address.startswith("data:image/png;base64,")
        pixels = np.asarray(Image.open(BytesIO(b64decode(address.partition(",")[2])))).astype(float)
        image = subset.images[subset.indices[each["index"]]].squeeze(-1).astype(float)
        assert pixels == pytest.approx((image - image.min()) / np.ptp(image) * 255, abs=1)
    for heading in ("Is the difference real?", "What differs", "Learning curves", "Class by class", "In MLflow"):
        assert heading in shown.headings
    told = verdicts(document)[0]
    for label, letter in zip(labels(document).values(), "AB", strict=True):
        told = told.replace(label, letter)
    assert told in shown.text
    rows = {row[0]: row for row in shown.rows if len(row) == 5}
    for name, first, second in zip(answers["classes"], *answers["recall"], strict=True):
        assert rows[name][2:] == [f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}"]
    logged = planted.client.get_run(more["comparison_run_id"])
    assert (logged.data.tags["workbench.kind"], logged.info.status) == ("comparison", "FINISHED")
    kept = folder_of(logged)
    assert (kept / "comparison.html").read_text() == page
    assert json.loads((kept / "comparison.json").read_text())["answers"] == answers


def folder_of(run: Any) -> Path:
    """The artifacts of a run or of its summary."""
    uri: str = run.artifact_uri if isinstance(run, RunSummary) else run.info.artifact_uri
    return Path(uri.removeprefix("file://"))


def test_images_of_data_that_have_changed_are_left_out(planted: Store, tmp_path: Path) -> None:
    runs = summaries(planted, "base", "seed")
    kept = {path: path.read_bytes() for path in (located(each.params["data.path"]) for each in runs)}
    for path in kept:
        np.savez(path, x=np.arange(300 * 64).reshape(300, 8, 8) % 16, y=np.arange(300) % 10)
    try:
        more = report(planted, runs, compare(planted, runs), html=str(tmp_path / "page.html"), log=False)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert "the data have changed since the run" in more["notes"][-1]


def test_a_page_in_the_project_is_no_code_and_leaves_it_clean(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    runs = summaries(planted, "base", "seed")
    report(planted, runs, compare(planted, runs), html=str(project / "report.html"), log=False)
    work_in(project, monkeypatch)
    code = keep_code(planted.folder, (), ())
    assert code.git is not None
    assert code.git["dirty"] is False
    assert "report.html" not in code.tree.files
    assert "pyproject.toml" in code.tree.files


def test_a_page_that_cannot_be_written_is_bad_input(planted: Store, tmp_path: Path) -> None:
    runs = summaries(planted, "base", "planted")
    document = compare(planted, runs)
    with pytest.raises(InputError, match="--html"):
        report(planted, runs, document, html=str(tmp_path / "none" / "page.html"), log=False)


# Runs that were never trained: what they left is made by hand.

RECORD: dict[str, Any] = {
    "data_sha256": "d" * 64,
    "split_sha256": {"val": "v" * 64, "test": "t" * 64},
    **{name: {} for name in ("packages", "torch", "machine", "variables")},
    **dict.fromkeys(("git", "sources")),
}


class Untrained:
    """A store of runs that are said to have been trials."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def trial(
        self, name: str, right: Sequence[bool] | float, *, record: Mapping[str, Any] = RECORD, **params: Any
    ) -> str:
        """A run that labelled these val images rightly, or just says so of a share of them; its id."""
        label = None if isinstance(right, float) else np.array(right, int)
        target = None if label is None else np.ones_like(label)
        return self._run(name, float(np.mean(right)), label, target, record, params)

    def labelled(self, name: str, label: np.ndarray, target: np.ndarray, **params: Any) -> str:
        """A run that labelled val images of the classes `target` so; its id."""
        return self._run(name, float(np.mean(label == target)), label, target, RECORD, params)

    def _run(
        self,
        name: str,
        accuracy: float,
        label: np.ndarray | None,
        target: np.ndarray | None,
        record: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> str:
        scores = dict.fromkeys(("val/accuracy", "value"), accuracy)
        run_id = self.run(name, "trial", scores, {"trainer.monitor": "val/accuracy", **params})
        with tempfile.TemporaryDirectory() as folder:
            if record:
                Path(folder, "provenance.json").write_text(json.dumps(record))
            if label is not None:
                answers = {"label": label, "target": target, "probabilities": np.eye(2)[label]}
                np.savez(Path(folder, "predictions.npz"), **{f"val_{key}": value for key, value in answers.items()})
            self.store.client.log_artifacts(run_id, folder)
        return run_id

    def run(
        self,
        name: str,
        kind: RunKind,
        scores: Mapping[str, float],
        params: Mapping[str, Any],
        outcome: str = "finished",
        tags: Mapping[str, str] = {},
    ) -> str:
        """A run of these last metrics; its id."""
        run_id = create_run(self.store, experiment="untrained", name=name, kind=kind, tags=tags)
        metrics = [Metric(metric, value, 0, 1) for metric, value in scores.items()]
        texts = [Param(field, str(value)) for field, value in params.items()]
        self.store.client.log_batch(run_id, metrics, texts, [RunTag("workbench.outcome", outcome)])
        self.store.client.set_terminated(run_id)
        return run_id


@pytest.fixture
def untrained(scratch_store: Store) -> Untrained:
    return Untrained(scratch_store)


def test_of_many_runs_the_best_is_tested_against_the_next_nine(untrained: Untrained) -> None:
    names = [f"run{wrong}" for wrong in range(12)]
    ids = [untrained.trial(name, [True] * (100 - n) + [False] * n, lr=n) for n, name in enumerate(names)]
    document = compared(untrained.store, *reversed(names))
    assert [place["run_id"] for place in document["ranking"]] == ids
    assert [test["between"] for test in document["tests"]] == [[ids[0], other] for other in ids[1:10]]
    raw = [2 / 2**n for n in range(1, 10)]  # n images that the best alone has right
    assert [test["uncorrected_p_value"] for test in document["tests"]] == pytest.approx(raw)
    corrected = [min(1, n * p) for n, p in zip(range(1, 10), raw, strict=True)]
    assert [test["p_value"] for test in document["tests"]] == pytest.approx(corrected)
    assert any(
        note.startswith("tested: run0, the best of 12, against each of the next 9") for note in document["notes"]
    )


def test_only_runs_of_the_same_split_are_tested(untrained: Untrained) -> None:
    other = RECORD | {"split_sha256": {"val": "w" * 64}}
    one = untrained.trial("one", [True] * 9 + [False], lr=1)
    untrained.trial("two", [True] * 10, record=other, lr=2)
    three = untrained.trial("three", [True] * 8 + [False] * 2, lr=3)
    document = compared(untrained.store, "one", "two", "three")
    assert [test["between"] for test in document["tests"]] == [[one, three]]
    (note,) = document["notes"]
    assert note.startswith("val scores are on different images and cannot be compared: their val splits differ: one ")
    assert [row["best"] for row in document["metrics"]] == [[], []]


def test_runs_that_did_not_finish_are_named_and_never_the_best(untrained: Untrained) -> None:
    for name in ("one", "two"):
        untrained.trial(name, [True] * 9 + [name == "one"], lr=name)
    for name, outcome in {"early": "interrupted", "nan": "failed", "late": "interrupted"}.items():
        scores = {"val/accuracy": 1.0, **({"value": 0.5} if name == "late" else {})}
        untrained.run(name, "train", scores, {"trainer.monitor": "val/accuracy"}, outcome)
    document = compared(untrained.store, "one", "two", "early", "nan", "late")
    ids = {run["name"]: run["run_id"] for run in document["runs"]}
    assert [place["run_id"] for place in document["ranking"]] == [ids["one"], ids["two"], ids["late"]]
    assert {row["name"]: row["best"] for row in document["metrics"]}["value"] == [ids["one"]]
    starred = {row["name"]: row["best"] for row in document["metrics"]}["val/accuracy"]
    assert not {ids["early"], ids["nan"]} & set(starred)
    assert document["notes"][:2] == [
        "not compared, since they have no val/accuracy: "
        f"early ({ids['early'][:8]}), interrupted | nan ({ids['nan'][:8]}), failed",
        f"compared, but not finished: late ({ids['late'][:8]}), interrupted",
    ]


def test_the_best_is_tested_against_the_next_by_the_other_metrics_too(untrained: Untrained) -> None:
    # Of the second class one calls all 20 images right, two none: two's accuracy is 0.9, its macro-F1 near a half.
    for name, rare in {"one": True, "two": False, "three": False}.items():
        label = np.array([1] * 180 + [0 if rare else 1] * 20)
        if name == "three":
            label[:10] = 0
        untrained.labelled(name, label, np.array([1] * 180 + [0] * 20), lr=name)
    document = compared(untrained.store, "one", "two", "three")
    ids = [place["run_id"] for place in document["ranking"]]
    assert [test["between"] for test in document["tests"]] == [[ids[0], ids[1]], [ids[0], ids[2]]]
    others = {test["metric"]: test for test in document["other_tests"]}
    assert [*others] == ["val/macro_f1", "val/top3_accuracy", "val/calibration_error"]  # losses: of an unknown kind
    assert {tuple(test["between"]) for test in others.values()} == {(ids[0], ids[1])}
    assert others["val/macro_f1"]["difference"] == pytest.approx(1 - (2 * 180 / 380) / 2)
    assert others["val/macro_f1"]["distinguishable"]
    assert not others["val/top3_accuracy"]["distinguishable"]
    assert "one" in verdicts(document)[2]
    assert "is better than two" in verdicts(document)[2]


@pytest.mark.parametrize(
    "record",
    [
        {},
        # an earlier commit was killed between this and the rest of the record
        {"format": 4, "packages": {}, "data_sha256": "d", "split_sha256": {}, "machine": {}, "torch": {}}
        | {"variables": {}, "git": {"commit": "c" * 40, "dirty": True}},
    ],
    ids=["none", "half"],
)
def test_runs_without_provenance_are_said_to_be_unknown(untrained: Untrained, record: dict[str, Any]) -> None:
    for name in ("one", "two"):
        untrained.trial(name, [True] * 9 + [name == "one"], record=record, lr=name)
    document = compared(untrained.store, "one", "two")
    assert document["tests"] == []
    assert [note.partition(":")[0] for note in document["notes"]] == [
        "2 of 2 runs have no provenance.json",
        "not compared image by image, since the images are unknown",
    ]


def test_runs_that_differ_in_the_seed_alone_are_groups(untrained: Untrained) -> None:
    for lr, scores in {"high": [0.90, 0.92, 0.94], "low": [0.89, 0.90, 0.94]}.items():
        for seed, score in enumerate(scores):
            untrained.trial(f"{lr}{seed}", score, lr=lr, seed=seed)
    untrained.trial("alone", 0.99, lr="other", seed=0)
    document = compared(untrained.store, *(f"{lr}{seed}" for lr in ("low", "high") for seed in range(3)), "alone")
    high, low = document["groups"]
    assert (high["name"], low["name"]) == ("lr=high", "lr=low")
    assert high["values"] == [0.90, 0.92, 0.94]
    assert (high["mean"], high["sd"]) == pytest.approx((0.92, 0.02))
    assert high["ci95"] == pytest.approx([0.92 - 4.3027 * 0.02 / 3**0.5, 0.92 + 4.3027 * 0.02 / 3**0.5], abs=1e-6)
    (test,) = document["tests"]
    assert test["name"].startswith("Student's t-test, paired by seed")
    assert test["between"] == ["lr=high", "lr=low"]
    assert test["difference"] == pytest.approx(0.01)  # of 0.01, 0.02 and 0: t = sqrt(3), with two degrees of freedom
    assert test["p_value"] == pytest.approx(0.225403, abs=1e-6)
    assert test["distinguishable"] is False
    assert document["notes"] == ["1 of 3 groups have only one run and so no spread: they are not tested over seeds"]


def test_groups_by_a_param_of_other_seeds_are_tested_by_welch_and_holm(
    untrained: Untrained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"sgd": [0.5, 0.51], "adam": [0.9, 0.91], "adamw": [0.9, 0.92]}
    names = []
    for place, (kind, values) in enumerate(scores.items()):
        for seed, score in enumerate(values):
            names.append(f"{kind}{seed}")
            untrained.trial(names[-1], score, kind=kind, lr=score, seed=2 * place + seed)
    document = compared(untrained.store, *names, group_by="kind")
    assert [group["name"] for group in document["groups"]] == ["kind=adamw", "kind=adam", "kind=sgd"]
    page = tmp_path / "page.html"
    words = ["compare", *names, "--group-by", "kind", "--html", str(page), "--store", str(untrained.store.folder)]
    assert command_line.main(words) == 0
    assert "mean val/accuracy" in capsys.readouterr().out
    assert any("mean val/accuracy" in row for row in read_page(page.read_text()).rows)
    near, far = document["tests"]
    assert (near["name"], far["between"]) == ("Welch's t-test of val/accuracy", ["kind=adamw", "kind=sgd"])
    assert [test["distinguishable"] for test in (near, far)] == [False, True]
    assert far["p_value"] == pytest.approx(2 * far["uncorrected_p_value"])


def test_repeats_of_which_a_run_failed_are_no_group(untrained: Untrained) -> None:
    parents = {}
    for name, scores in {"steady": [0.90, 0.92], "wild": [0.98, 0.99, None]}.items():
        parents[name] = untrained.run(name, "repeats", {}, {}, tags={"workbench.sweep": name})
        tags = {"workbench.sweep": name, "mlflow.parentRunId": parents[name]}
        for seed, score in enumerate(scores):
            params = {"trainer.monitor": "val/accuracy", "seed": seed, "lr": name}
            found = {} if score is None else {"val/accuracy": score, "value": score}
            untrained.run(f"{name}{seed}", "repeat", found, params, "finished" if found else "failed", tags)
    document = compared(untrained.store, *parents.values())
    assert [group["name"] for group in document["groups"]] == ["steady"]
    said = "wild has no mean, since one of its runs failed and the mean of the others would be too good"
    assert said in document["notes"]


def test_a_run_made_again_counts_once(untrained: Untrained) -> None:
    for name in ("a", "again", "other"):
        untrained.trial(name, 0.9, lr=1, seed=int(name == "other"))
    (group,) = compared(untrained.store, "a", "again", "other")["groups"]
    assert [untrained.store.client.get_run(run_id).info.run_name for run_id in group["run_ids"]] == ["again", "other"]


def test_a_param_that_no_run_has_is_bad_input(untrained: Untrained) -> None:
    for name in ("one", "two"):
        untrained.trial(name, 0.9, lr=name)
    with pytest.raises(InputError, match="did you mean 'lr'"):
        compared(untrained.store, "one", "two", group_by="lrr")


def test_many_runs_are_shown_a_row_each(
    untrained: Untrained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: list[dict[str, Any]] = [{"momentum": 0.9}, {"momentum": 0.5}, {}, {}, {}]
    names = [f"row{number}" for number in range(5)]
    for number, (name, more) in enumerate(zip(names, options, strict=True)):
        kind = "sgd" if more else "adam"
        untrained.trial(name, [True] * (9 - number) + [False] * (1 + number), lr=10.0**-number, kind=kind, **more)
    page = tmp_path / "page.html"
    assert command_line.main(["compare", *names, "--store", str(untrained.store.folder), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(name) for name in names]
    assert places == sorted(places)
    assert "row0 (" in shown
    assert "are not distinguishable: val/accuracy differs by 0.1000" in shown
    drawn = read_page(page.read_text())
    assert any(label.startswith("Parallel coordinates of 5 runs") for label in drawn.charts)
    axes = {axis["path"]: axis for axis in json.loads(drawn.data)["axes"]}
    assert axes["kind"]["choices"] == ["adam", "sgd"]
    assert axes["lr"]["log"]


def test_a_store_elsewhere_is_read_over_http(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    untrained = Untrained(Store.open(tmp_path))
    ids = [untrained.trial(name, right, lr=name) for name, right in (("a", [True, True]), ("b", [True, False]))]
    (test,) = compared(untrained.store, *ids)["tests"]
    assert (test["between"], test["first_only"], test["second_only"]) == (ids, 1, 0)


def test_several_sweeps_are_shown_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.open(tmp_path / "store")
    store.ensure_database()
    found = swept(lambda params: 0.9 + 0.01 * params["optimizer.momentum"], trials=12)
    for name in ("one", "two", "bare"):
        run_id = create_run(store, experiment="e", name=name, kind="sweep", tags={"workbench.sweep": name})
        folder = folder_of(store.client.get_run(run_id))
        folder.mkdir(parents=True, exist_ok=True)
        if name != "bare":
            (folder / "leaderboard.json").write_text(json.dumps(found | {"sweep": name}))
        for seed in (1, 2):
            tags = {"mlflow.parentRunId": run_id}
            child = create_run(store, experiment="e", name=f"{name} {seed}", kind="trial", tags=tags)
            store.client.log_metric(child, "value", 0.9)
    document = compare(store, list_runs(store, sweep="one"), sweeps=["one", "two", "bare"])
    first, second = document["sweeps"]
    assert (first["sweep"], second["sweep"]) == ("one", "two")
    assert (first["trials"], first["epochs"], first["seconds"]) == (12, 120, 360.0)
    assert (first["mean"], first["values"]) == (found["finalists"][0]["mean"], found["finalists"][0]["values"])
    best = max((trial["value"], trial["number"]) for trial in found["trials"])
    assert first["best_so_far"][-1][1] == best[0]
    assert [value for _, value in first["best_so_far"]] == sorted(value for _, value in first["best_so_far"])
    assert any(note.startswith("the sweep bare is not shown beside the others") for note in document["notes"])
    page = tmp_path / "page.html"
    words = ["compare", "--sweep", "one", "two", "--html", str(page), "--store", str(store.folder)]
    assert command_line.main(words) == 0
    assert f"{first['mean']:.4f}" in capsys.readouterr().out
    shown = read_page(page.read_text())
    assert "Sweeps side by side" in shown.headings
    assert [row[0] for row in shown.rows if len(row) == 8][1:] == ["■one", "■two"]
