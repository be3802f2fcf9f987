"""Who trains, who validates, who tests."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset, LabelledImages, SourceOptions, find_source
from lightning_modules.pipeline.splits import Subset, make_splits


def labelled(*counts: int) -> LabelledImages:
    """Images of one pixel, `counts[k]` of class k."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return LabelledImages(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)


def split(
    *counts: int, val: LabelledImages | None = None, test: LabelledImages | None = None, **options: Any
) -> dict[str, Subset]:
    names = tuple("abcdefghij"[: len(counts)])
    dataset = ImageDataset(labelled(*counts), names, val=val, test=test)
    return make_splits(dataset, **{"val_fraction": 0.25, "test_fraction": 0.2, "split_seed": 0} | options)


def class_counts(subset: Subset) -> list[int]:
    return np.bincount(subset.labels[subset.indices]).tolist()


def test_every_split_has_the_classes_in_the_same_shares() -> None:
    splits = split(80, 20)
    assert {name: class_counts(subset) for name, subset in splits.items()} == {
        "train": [48, 12],
        "val": [16, 4],
        "test": [16, 4],
    }


def test_an_official_test_set_is_kept_whole_and_in_order() -> None:
    official = labelled(5, 1)
    splits = split(80, 20, test=official)
    assert splits["test"].images is official.images
    assert splits["test"].indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert (len(splits["train"]), len(splits["val"])) == (75, 25)


def test_an_official_val_set_is_kept_whole() -> None:
    official = labelled(3, 3)
    splits = split(80, 20, val=official)
    assert splits["val"].images is official.images
    assert splits["val"].indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert (len(splits["train"]), len(splits["test"])) == (80, 20)


def test_with_both_official_all_the_rest_trains() -> None:
    splits = split(8, 2, val=labelled(1, 1), test=labelled(1, 1))
    assert splits["train"].indices.tolist() == list(range(10))


def test_split_seed_chooses_who_validates_and_never_who_tests() -> None:
    first, second = split(80, 20, split_seed=0), split(80, 20, split_seed=1)
    assert first["test"].indices.tolist() == second["test"].indices.tolist()
    assert first["val"].indices.tolist() != second["val"].indices.tolist()


def test_another_process_splits_alike() -> None:
    code = (
        "from lightning_modules.datasets import SourceOptions, find_source\n"
        "from lightning_modules.pipeline.splits import make_splits\n"
        "digits = find_source('digits').load(SourceOptions())\n"
        "splits = make_splits(digits, val_fraction=0.1, test_fraction=0.2, split_seed=7)\n"
        "print([subset.indices.tolist() for subset in splits.values()])\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    digits = find_source("digits").load(SourceOptions())
    here = make_splits(digits, val_fraction=0.1, test_fraction=0.2, split_seed=7)
    assert printed.strip() == str([subset.indices.tolist() for subset in here.values()])


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(20, 60), min_size=1, max_size=5),
    val_fraction=st.floats(0.2, 0.5),
    test_fraction=st.floats(0.2, 0.5),
    split_seed=st.integers(0, 2**32 - 1),
)
def test_every_image_is_in_exactly_one_split(
    counts: list[int], val_fraction: float, test_fraction: float, split_seed: int
) -> None:
    splits = split(*counts, val_fraction=val_fraction, test_fraction=test_fraction, split_seed=split_seed)
    together = np.concatenate([subset.indices for subset in splits.values()])
    assert sorted(together.tolist()) == list(range(sum(counts)))
    assert all(subset.indices.tolist() == sorted(subset.indices.tolist()) for subset in splits.values())


@pytest.mark.parametrize(
    ("field", "counts", "official"),
    [
        ("data.test_fraction", (50, 1), None),
        ("data.val_fraction", (50, 1), labelled(1, 1)),
        ("data.test_fraction", (2, 2), None),  # a fifth of 4 images has no room for both classes
    ],
)
def test_too_few_images_of_a_class_are_refused(
    field: str, counts: tuple[int, ...], official: LabelledImages | None
) -> None:
    with pytest.raises(
        InputError, match=rf"^{field}: cannot split {sum(counts)} images by class, with {min(counts)} in the small"
    ):
        split(*counts, test=official)


def test_splits_of_earlier_runs_stay_as_they_were() -> None:
    digits = find_source("digits").load(SourceOptions())
    splits = make_splits(digits, val_fraction=0.1, test_fraction=0.2, split_seed=0)
    assert {name: subset.order_sha256[:16] for name, subset in splits.items()} == {
        "train": "a9cdc3630501bf2d",
        "val": "5d605a5c3f0eccd4",
        "test": "2fbaae31b8c6aad1",
    }


# Folds.


def test_folds_share_no_image_and_together_are_all_but_test() -> None:
    folds = [split(50, 30, folds=5, fold=fold) for fold in range(5)]
    assert len({tuple(splits["test"].indices.tolist()) for splits in folds}) == 1
    together = np.concatenate([splits["val"].indices for splits in folds] + [folds[0]["test"].indices])
    assert sorted(together.tolist()) == list(range(80))
    counts = [class_counts(splits["val"]) for splits in folds]
    assert sorted(counts) == [[8, 4], [8, 5], [8, 5], [8, 5], [8, 5]]
    for splits in folds:
        assert not set(splits["train"].indices) & set(splits["val"].indices)
        assert len(splits["train"]) + len(splits["val"]) == 64


def test_split_seed_shuffles_folds() -> None:
    first, second = (split(50, 30, folds=5, fold=0, split_seed=seed) for seed in (0, 1))
    assert first["val"].indices.tolist() != second["val"].indices.tolist()


def test_a_class_too_small_for_the_folds_is_named() -> None:
    with pytest.raises(InputError, match=r"^data\.folds: class 'b' has 4 images, but the splits need 5"):
        split(50, 5, folds=5, fold=0)


def test_folds_of_a_val_set_that_the_publisher_made_are_refused() -> None:
    with pytest.raises(InputError, match=r"^data\.folds: the data set has a val split of its own"):
        split(50, 50, val=labelled(1, 1), folds=5, fold=0)


# Groups.


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=6, max_size=40),
    val_fraction=st.floats(0.02, 0.6),
    test_fraction=st.floats(0.02, 0.6),
    split_seed=st.integers(0, 2**32 - 1),
    folds=st.sampled_from([None, 2, 3]),
)
def test_no_group_is_in_two_splits(
    sizes: list[int], val_fraction: float, test_fraction: float, split_seed: int, folds: int | None
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    dataset = ImageDataset(labelled(len(groups)), ("a",))
    splits = make_splits(
        dataset,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        groups=groups,
        folds=folds if len(sizes) > 9 else None,
        fold=0 if folds and len(sizes) > 9 else None,
    )
    together = np.concatenate([subset.indices for subset in splits.values()])
    assert sorted(together.tolist()) == list(range(len(groups)))
    members = [set(groups[subset.indices].tolist()) for subset in splits.values()]
    assert all(members)
    assert sum(map(len, members)) == len(sizes)


def test_shares_of_many_small_groups_are_those_asked_for_class_by_class() -> None:
    groups = np.arange(400) // 2
    splits = make_splits(
        ImageDataset(labelled(200, 200), ("a", "b")), val_fraction=0.25, test_fraction=0.2, split_seed=0, groups=groups
    )
    counts = {name: class_counts(subset) for name, subset in splits.items()}
    assert counts == {"train": [120, 120], "val": [40, 40], "test": [40, 40]}


def test_a_class_in_one_group_alone_is_named() -> None:
    dataset = ImageDataset(labelled(20, 20), ("a", "b"))
    with pytest.raises(InputError, match=r"^data\.test_fraction: class 'b' has 1 groups, but the splits need 2"):
        make_splits(dataset, val_fraction=0.2, test_fraction=0.2, split_seed=0, groups=np.arange(40).clip(max=20))
