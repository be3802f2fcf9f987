"""Who belongs together, by an array or by file names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_modules import DataConfig, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset, LabelledImages
from lightning_modules.pipeline.groups import find_groups

NAMES = ("cat/p1_a.png", "cat/p2_a.png", "dog/p1_b.png", "dog/p3_b.png")
IMAGES = LabelledImages(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 1, 1]), NAMES)


@pytest.mark.parametrize("values", [[7, 9, 7, 8], ["p", "r", "p", "q"]])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_groups_are_read_from_an_array(values: list[Any], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"groups.{suffix}"
    np.save(path, np.array(values)) if suffix == "npy" else np.savez(path, groups=np.array(values), x=np.zeros(3))
    groups = find_groups(IMAGES, str(path), None)
    assert groups is not None
    assert groups.tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [(r"/(p\d)_", [0, 1, 0, 2]), (r"p\d", [0, 1, 0, 2]), (r"^\w+", [0, 0, 1, 1]), (r"(?:cat|dog)/(.*)_", [0, 1, 0, 2])],
)
def test_groups_are_read_from_file_names(pattern: str, expected: list[int]) -> None:
    groups = find_groups(IMAGES, None, pattern)
    assert groups is not None
    assert groups.tolist() == expected


def test_without_either_there_are_none() -> None:
    assert find_groups(IMAGES, None, None) is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"groups": [1, 2, 3]}, "groups is int64 of shape (3,), but train has 4 images"),
        ({"groups": [[1], [2], [3], [4]]}, "groups is int64 of shape (4, 1)"),
        ({"groups": [0.5, 1, 2, 3]}, "groups is float64 of shape (4,)"),
        ({"x": [1, 2], "y": [1, 2]}, "holds ['x', 'y'] and no groups"),
    ],
)
def test_unusable_arrays_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "groups.npz", **arrays)
    with pytest.raises(InputError, match=rf"^data\.groups: {re.escape(message)}"):
        find_groups(IMAGES, str(tmp_path / "groups.npz"), None)


def test_a_file_name_without_a_match_is_named() -> None:
    with pytest.raises(InputError, match=r"^data\.group_pattern: does not match dog/p1_b\.png and 1 other"):
        find_groups(IMAGES, None, "cat")
    with pytest.raises(InputError, match=r"^data\.group_pattern: the images have no file names"):
        find_groups(LabelledImages(IMAGES.images, IMAGES.labels), None, "cat")


def test_a_run_s_splits_part_no_group(tmp_path: Path) -> None:
    patients = np.random.default_rng(0).integers(0, 30, 200)
    np.save(tmp_path / "patients.npy", patients)
    dataset = ImageDataset(LabelledImages(np.zeros((200, 2, 2, 1), np.uint8), np.arange(200) % 2), ("a", "b"))
    data = ImageDataModule(DataConfig(groups=str(tmp_path / "patients.npy"), folds=5, fold=4), dataset=dataset)
    data.setup()
    members = [set(patients[subset.indices].tolist()) for subset in data.splits.values()]
    assert sum(map(len, members)) == len(set(patients.tolist()))


def test_groups_where_nothing_is_cut_are_refused() -> None:
    dataset = ImageDataset(IMAGES, ("a", "b"), val=IMAGES, test=IMAGES)
    with pytest.raises(InputError, match=r"^data\.group_pattern: has no effect"):
        ImageDataModule(DataConfig(group_pattern=r"p\d"), dataset=dataset).setup()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"groups": "x.npy", "group_pattern": "p"}, "group_pattern"),
        ({"group_pattern": "("}, "group_pattern"),
        ({"folds": 1, "fold": 0}, "folds"),
        ({"folds": 5}, "fold"),
        ({"fold": 0}, "folds"),
        ({"folds": 5, "fold": 5}, "fold"),
        ({"folds": 5, "fold": -1}, "fold"),
    ],
)
def test_impossible_settings_are_refused_by_their_names(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=rf"^data\.{field}: "):
        DataConfig(**options)
