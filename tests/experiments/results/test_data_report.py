"""What is told of a data set's faults: by `workbench data check`, and among a run's artifacts."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import workbench as command_line
from experiments import Store, load_config, run
from experiments.results.data_report import check
from lightning_modules import InputError

NOISE = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)


def planted(path: Path) -> Path:
    """Every fault that arrays can have, each at places of its own."""
    x_train, x_test = NOISE[:30].copy(), NOISE[30:].copy()
    y_train, y_test = np.arange(30) % 2 * 2, np.arange(10) % 2 * 2
    x_train[5] = x_train[3]
    x_train[7] = x_test[1]
    x_train[9], y_train[9], y_train[8] = x_train[8], 2, 0
    x_train[11], x_train[13, 2, 2], x_train[15, 1, 1] = 0, np.nan, np.inf
    y_train[29] = 4
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def test_every_planted_fault_of_arrays_is_found_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = planted(tmp_path / "dirty.npz")
    assert command_line.main(["data", "check", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(path)
    assert document["splits"]["train"]["count"] == 30
    assert document["splits"]["test"]["classes"] == {"0": 5, "2": 5, "4": 0}
    assert len(document["sha256"]) == 64
    places = {
        (finding["kind"], finding["split"]): [
            example.get("index", example.get("class")) for example in finding["examples"]
        ]
        for finding in document["findings"]
    }
    assert places == {
        ("leaks", "train"): [7],
        ("duplicates", "train"): [5, 9],
        ("conflicting_labels", "train"): [8, 9],
        ("constant", "train"): [11],
        ("non_finite", "train"): [13, 15],
        ("missing_classes", "test"): ["4"],
        ("imbalance", "train"): ["4"],
        ("label_gaps", "train"): ["1", "3"],
        ("value_range", "train"): [None],
        ("value_range", "test"): [None],
    }


def test_every_planted_fault_of_a_folder_is_found_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    for number, noise in enumerate((255 * NOISE[:12]).astype(np.uint8)):
        (folder / ("cat", "dog")[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(folder / ("cat", "dog")[number % 2] / f"{number:02}.png")
    (folder / "cat/02.png").write_bytes((folder / "cat/00.png").read_bytes())
    (folder / "dog/03.png").write_bytes((folder / "cat/04.png").read_bytes())
    (folder / "cat/06.png").write_bytes((folder / "cat/06.png").read_bytes()[:60])
    (folder / "cat/secret.png").symlink_to(tmp_path)
    Image.new("L", (8, 8)).save(folder / "cat/08.png")
    document = check(str(folder), {"data.root": str(tmp_path), "data.channels": 1})
    files = {finding["kind"]: [example["file"] for example in finding["examples"]] for finding in document["findings"]}
    assert files == {
        "unreadable": ["cat/secret.png", "cat/06.png"],
        "duplicates": ["cat/02.png", "dog/03.png"],
        "conflicting_labels": ["cat/04.png", "dog/03.png"],
        "constant": ["cat/08.png"],
    }


def test_a_check_is_readable_without_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["data", "check", str(planted(tmp_path / "dirty.npz"))]) == 0
    printed = capsys.readouterr().out
    assert "7 (2) = test 1 (2)" in printed
    assert f"{tmp_path}/dirty.npz  SHA-256 " in printed


def test_labels_of_a_npy_and_other_fields_are_given_as_in_a_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", NOISE)
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    words = ["data", "check", str(tmp_path / "x.npy"), "--data.labels_path", str(tmp_path / "y.npy"), "--json"]
    assert command_line.main(words) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["count"] == 40


def test_what_is_neither_path_nor_source_is_refused() -> None:
    with pytest.raises(InputError, match=r"^NAME-OR-PATH: no such file, folder or data set .*did you mean 'digits'"):
        check("digit", {})


def test_a_run_leaves_its_report_with_what_was_dropped(tmp_path: Path, scratch_store: Store) -> None:
    x = (255 * NOISE).astype(np.uint8)
    x[[1, 3]] = x[0]
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(40) // 20)
    overrides = {"data.path": str(tmp_path / "x.npz"), "trainer.max_epochs": 1, "trainer.threads": 1}
    dropping = {"data.cleaning.duplicates": "drop", "data.cleaning.leaks": "drop"}
    result = run(load_config("arrays", overrides | dropping), store=scratch_store)
    folder = Path(result.artifact_uri.removeprefix("file://"))
    report = json.loads((folder / "data_report.json").read_text())
    splits = report["splits"].values()
    assert (sum(told["count"] for told in splits), sum(told["dropped"] for told in splits)) == (38, 2)
    assert scratch_store.client.get_run(result.run_id).data.tags["workbench.data_dropped"] == "2"
    assert (folder / "plots" / "data_report.png").read_bytes().startswith(b"\x89PNG")
