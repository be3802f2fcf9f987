"""`workbench promote`: an equal, a better and a worse candidate, a forced one, and one on other images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

import workbench
from experiments import Store
from experiments.tracking.lifecycle import create_run
from tests.stores import copy_store_folder

IMAGES = 10_000
Promote = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def store(digits_store: Path, first_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of the store with the run `first`, into which these tests write."""
    folder = tmp_path_factory.mktemp("promote") / "store"
    return Store.open(copy_store_folder(digits_store, folder))


@pytest.fixture
def promote(store: Store, capsys: pytest.CaptureFixture[str]) -> Promote:
    def call(*words: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = workbench.main(["promote", *words, "--store", str(store.folder), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def plant(store: Store, first_folder: Path, name: str, wrong: range, other_images: bool = False) -> str:
    """A run like `first`, whose predictions are right on all of 10,000 test images but those in `wrong`."""
    run_id = create_run(store, experiment="planted", name=name, kind="train")
    folder = store.files_folder(store.client.get_run(run_id).info)
    shutil.copytree(first_folder, folder, dirs_exist_ok=True)
    target = np.zeros(IMAGES, np.int64)
    label = target.copy()
    label[list(wrong)] = 1
    probabilities = np.eye(10, dtype=np.float32)[label]
    np.savez(folder / "predictions.npz", test_target=target, test_label=label, test_probabilities=probabilities)
    if other_images:
        told = json.loads((folder / "provenance.json").read_text())
        (folder / "provenance.json").write_text(json.dumps(told | {"data_sha256": "0" * 64}))
    store.client.set_terminated(run_id)
    return run_id


@pytest.fixture(scope="module")
def runs(store: Store, first_folder: Path) -> dict[str, str]:
    """The champion is wrong on 1,000 images."""
    return {
        "champion": plant(store, first_folder, "champion", range(1000)),
        "equal": plant(store, first_folder, "equal", range(10, 1010)),
        "better": plant(store, first_folder, "better", range(900)),
        "worse": plant(store, first_folder, "worse", range(1100)),
        "little": plant(store, first_folder, "little", range(1020)),
        "elsewhere": plant(store, first_folder, "elsewhere", range(0), other_images=True),
    }


def versions(store: Store, name: str) -> list[Any]:
    return list(store.client.search_model_versions(f"name = '{name}'"))


def test_the_first_is_promoted_and_it_says_that_there_was_none(
    store: Store, runs: dict[str, str], promote: Promote
) -> None:
    code, document = promote("champion")
    assert code == 0
    assert (document["promoted"], document["version"], document["name"]) == (True, "1", "planted")
    assert "there was none to compare it with" in document["reason"]
    assert document["champion"] is None
    version = store.client.get_model_version_by_alias("planted", "champion")
    assert version.run_id == runs["champion"]
    assert version.description.startswith(f"champion ({runs['champion'][:8]}) is the first champion of planted")
    assert 'mlflow.pyfunc.load_model("models:/planted@champion")' in version.description
    again = promote("champion")[1]
    assert (again["promoted"], again["version"]) == (True, "1")
    assert again["reason"].endswith("is the champion of planted already")
    assert len(versions(store, "planted")) == 1


@pytest.mark.parametrize(
    ("candidate", "options", "code", "verdict"),
    [
        ("equal", (), 0, "is not worse than the champion"),
        ("better", (), 0, "is better than the champion"),
        ("worse", (), 1, "is worse than the champion"),
        ("worse", ("--force",), 0, "promoted by --force, although worse"),
        ("worse", ("--margin", "0.02"), 0, "by more than 0.02"),
        ("little", (), 0, "by more than 0.005"),
        ("little", ("--margin", "0.002"), 1, "is worse than the champion"),
    ],
)
def test_a_candidate_is_judged_by_a_paired_test(
    candidate: str,
    options: tuple[str, ...],
    code: int,
    verdict: str,
    store: Store,
    runs: dict[str, str],
    promote: Promote,
) -> None:
    name = f"{candidate}{len(options)}{''.join(options).strip('-').replace('.', '')}"
    assert promote("champion", "--name", name)[0] == 0
    found, document = promote(candidate, "--name", name, *options)
    assert (found, document["promoted"]) == (code, code == 0)
    assert verdict in document["reason"]
    assert document["test"]["images"] == IMAGES
    holder = store.client.get_model_version_by_alias(name, "champion")
    assert holder.run_id == runs[candidate if code == 0 else "champion"]
    assert len(versions(store, name)) == (2 if code == 0 else 1)
    assert document["version"] == ("2" if code == 0 else None)
    if code == 0:
        assert document["reason"][:40] in holder.description
        assert "load_model" in holder.description


def test_the_difference_is_the_candidates_minus_the_champions(runs: dict[str, str], promote: Promote) -> None:
    """100 of 10,000 images."""
    assert promote("champion", "--name", "sign")[0] == 0
    test = promote("worse", "--name", "sign")[1]["test"]
    assert test["difference"] == pytest.approx(-0.01)
    assert test["ci95"][0] < -0.01 < test["ci95"][1] < 0


def test_other_test_images_are_bad_input_in_one_line_unless_forced(
    store: Store, runs: dict[str, str], promote: Promote, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote("champion", "--name", "other")[0] == 0
    assert workbench.main(["promote", "elsewhere", "--name", "other", "--store", str(store.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: RUN: cannot be compared with the champion champion (")
    assert "their data differ" in line
    code, document = promote("elsewhere", "--name", "other", "--force")
    assert (code, document["test"]) == (0, None)
    assert document["reason"].startswith("promoted by --force, without a test: elsewhere (")


def test_a_promoted_model_answers_by_its_alias(
    store: Store, runs: dict[str, str], promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert promote("equal", "--name", "a/b", "--alias", "live")[1]["name"] == "a_b"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    answer = mlflow.pyfunc.load_model("models:/a_b@live").predict(np.zeros((2, 8, 8), np.uint8))
    assert answer["label"].shape == (2,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("champion", "--alias", "latest"), "--alias: is no alias"),
        (("champion", "--margin", "1.5"), "is not a share of images"),
        (("no-such-run",), "RUN: no such run in this store"),
    ],
)
def test_bad_input_is_told_in_one_line(
    words: tuple[str, ...], message: str, store: Store, runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert workbench.main(["promote", *words, "--store", str(store.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_what_is_printed_begins_with_the_verdict(
    store: Store, runs: dict[str, str], promote: Promote, screen: Callable[..., list[str]]
) -> None:
    assert promote("champion", "--name", "shown")[0] == 0
    lines = screen("promote", "worse", "--name", "shown", "--store", store.folder, code=1)
    assert lines[0].startswith("not promoted: worse (")
    assert any("--force" in line for line in lines)
    assert max(len(line) for line in lines if not line.startswith("override")) <= 80
    lines = screen("promote", "better", "--name", "shown", "--store", store.folder)
    assert lines[0].startswith("promoted: better (")
    assert "model      models:/shown@champion, version 2" in lines
