"""What is found wrong with a data set, and what each policy does about it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_modules import CleaningConfig, DataConfig, DataReport, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset, LabelledImages, RefusedFile
from lightning_modules.pipeline.cleaning import clean
from lightning_modules.pipeline.splits import Subset, as_published

NOISE = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
ALL_REPORT = {"unreadable": "report", "non_finite": "report"}


def part(images: Any, labels: Any = None, names: tuple[str, ...] | None = None) -> LabelledImages:
    labels = np.arange(len(images)) % 2 if labels is None else np.asarray(labels)
    return LabelledImages(images.copy(), labels, names)


def two_parts(train: LabelledImages | None = None, test: LabelledImages | None = None) -> ImageDataset:
    """20 images of noise in train, 10 others in test, two classes."""
    return ImageDataset(train or part(NOISE[:20]), ("a", "b"), test=test or part(NOISE[20:30]))


def cleaned(dataset: ImageDataset, **policies: Any) -> tuple[dict[str, Subset], DataReport]:
    return clean(dataset, as_published(dataset), CleaningConfig(**ALL_REPORT | policies))


def found(dataset: ImageDataset) -> dict[tuple[str, str], tuple[int, list[Any]]]:
    """By kind and split: the count, and the index, file, class or words of each example."""
    _, report = cleaned(dataset)
    return {
        (finding.kind, finding.split): (
            finding.count,
            [next(each[key] for key in ("file", "index", "class", "what") if key in each) for each in finding.examples],
        )
        for finding in report.findings
    }


def test_in_sound_images_nothing_is_found_and_nothing_is_dropped() -> None:
    dataset = two_parts()
    splits, report = cleaned(dataset)
    assert report.findings == []
    assert {split: subset.indices.tolist() for split, subset in splits.items()} == {
        "train": list(range(20)),
        "test": list(range(10)),
    }
    assert report.splits["test"] == {
        "count": 10,
        "shape": [4, 4, 1],
        "dtype": "uint8",
        "classes": {"a": 5, "b": 5},
        "dropped": 0,
    }


def with_copies() -> ImageDataset:
    """Train 2 and 4 are copies of train 0, train 7 and 9 of test 3, test 6 of test 2; train 9 has the other label."""
    train, test = NOISE[:20].copy(), NOISE[20:30].copy()
    train[[2, 4]], train[[7, 9]], test[6] = train[0], test[3], test[2]
    labels = np.arange(20) % 2
    labels[[2, 4]], labels[[7, 9]] = labels[0], [1, 0]
    return two_parts(part(train, labels), part(test))


def test_copies_are_found_within_splits_across_splits_and_under_other_labels() -> None:
    assert found(with_copies()) == {
        ("leaks", "train"): (2, [7, 9]),
        ("duplicates", "train"): (3, [2, 4, 9]),
        ("duplicates", "test"): (1, [6]),
        ("conflicting_labels", "train"): (2, [7, 9]),
        ("conflicting_labels", "test"): (1, [3]),
    }


def test_each_copy_tells_what_it_is_a_copy_of() -> None:
    _, report = cleaned(with_copies())
    examples = {(finding.kind, finding.split): finding.examples for finding in report.findings}
    assert examples["leaks", "train"][0] == {
        "index": 7,
        "class": "b",
        "same_as": {"split": "test", "index": 3, "class": "b"},
    }
    assert examples["conflicting_labels", "test"][0]["same_as"] == {"split": "train", "index": 9, "class": "a"}


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [
        ("leaks", {7, 9}, set()),
        ("duplicates", {2, 4, 9}, {6}),
        ("conflicting_labels", {7, 9}, {3}),
    ],
)
def test_copies_are_dropped_where_the_policy_says_so(kind: str, train: set[int], test: set[int]) -> None:
    splits, report = cleaned(with_copies(), **{kind: "drop"})
    assert set(range(20)) - set(splits["train"].indices.tolist()) == train
    assert set(range(10)) - set(splits["test"].indices.tolist()) == test
    assert [report.splits[split]["dropped"] for split in ("train", "test")] == [len(train), len(test)]
    dropped = {(finding.kind, finding.split): finding.dropped for finding in report.findings if finding.dropped}
    assert dropped == {(kind, split): len(gone) for split, gone in (("train", train), ("test", test)) if gone}


def test_images_that_only_share_a_hash_are_no_copies() -> None:
    images = np.zeros((2, 4, 4, 1), np.uint8)
    images[1].reshape(-1)[[7, 15]] = 128  # the highest bits of two words: 2^63 times an even number is 0
    dataset = two_parts(part(np.concatenate([images, NOISE[:10]])))
    assert dataset.train.content.hashes[0] == dataset.train.content.hashes[1]
    assert ("duplicates", "train") not in found(dataset)


def test_empty_and_broken_images_are_found_by_index_and_file() -> None:
    images = NOISE[:20].astype(np.float32)
    images[3], images[5], images[8, 1, 1], images[11, 0, 0] = 0, 200, np.nan, np.inf
    names = tuple(f"{number}.png" for number in range(20))
    dataset = ImageDataset(
        part(images, names=names), ("a", "b"), refused=(RefusedFile("train", "z.png", "is damaged"),)
    )
    assert found(dataset) == {
        ("unreadable", "train"): (1, ["z.png"]),
        ("non_finite", "train"): (2, ["8.png", "11.png"]),
        ("constant", "train"): (2, ["3.png", "5.png"]),
    }


def test_broken_images_and_files_stop_a_run_unless_told_otherwise() -> None:
    images = NOISE[:20].astype(np.float32)
    images[8, 1, 1] = np.nan
    with pytest.raises(InputError, match=r"^data\.cleaning\.non_finite: 1 in train: NaN or Inf: 8 .* report or drop$"):
        ImageDataModule(DataConfig(), dataset=two_parts(part(images))).setup()
    dataset = ImageDataset(part(NOISE), ("a", "b"), refused=(RefusedFile("train", "a/b.png", "is damaged"),))
    with pytest.raises(InputError, match=r"^data\.cleaning\.unreadable: 1 in train: .*: a/b\.png is damaged"):
        ImageDataModule(DataConfig(), dataset=dataset).setup()
    data = ImageDataModule(DataConfig(cleaning=CleaningConfig(non_finite="drop")), dataset=two_parts(part(images)))
    data.setup()
    assert 8 not in data.splits["train"].indices.tolist() + data.splits["val"].indices.tolist()


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([0] * 11 + [1], ("a", "b"), {("imbalance", "train"): (1, ["b"])}),
        ([0] * 10 + [1], ("a", "b"), {}),
        ([0, 1, 1], ("a", "b", "c"), {("missing_classes", "train"): (1, ["c"])}),
        ([0, 1, 2], ("-1", "1", "4"), {("label_gaps", "train"): (3, ["0", "2", "3"])}),
    ],
)
def test_class_counts_are_looked_at(labels: list[int], class_names: tuple[str, ...], expected: Any) -> None:
    assert found(ImageDataset(part(NOISE[: len(labels)], labels), class_names)) == expected


SCALED = (NOISE / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (SCALED, SCALED, {("value_range", "train"), ("value_range", "test")}),
        (SCALED * 2 - 1, SCALED * 2 - 1, {("value_range", "train"), ("value_range", "test")}),
        (NOISE // 200, NOISE // 200, {("value_range", "train"), ("value_range", "test")}),
        (NOISE, SCALED, {("value_range", "test"), ("value_type", "test")}),
        (NOISE.astype(np.float32), SCALED * 254, {("value_type", "train")}),
    ],
)
def test_surprising_ranges_and_types_are_told(train: Any, test: Any, expected: set[tuple[str, str]]) -> None:
    kinds = found(two_parts(part(train[:20]), part(test[20:])))
    assert {kind for kind in kinds if kind[0].startswith("value")} == expected


@pytest.mark.parametrize("kind", ["leaks", "duplicates", "conflicting_labels"])
def test_fail_stops_before_training(kind: str) -> None:
    with pytest.raises(InputError, match=rf"^data\.cleaning\.{kind}: "):
        cleaned(with_copies(), **{kind: "fail"})


@pytest.mark.parametrize(("kind", "policy"), [("leaks", "ignore"), ("imbalance", "drop")])
def test_an_unknown_policy_is_refused(kind: str, policy: Any) -> None:
    with pytest.raises(InputError, match=rf"^data\.cleaning\.{kind}: no such choice"):
        CleaningConfig(**{kind: policy})


def test_dropping_all_of_a_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"^data\.cleaning: leaves no image in train"):
        cleaned(two_parts(part(np.zeros((4, 4, 4, 1), np.uint8))), constant="drop")


@settings(deadline=None, max_examples=40)
@given(picks=st.lists(st.integers(0, 30), min_size=10, max_size=80), split_seed=st.integers(0, 99), data=st.data())
def test_no_copy_crosses_a_split_once_leaks_are_dropped(picks: list[int], split_seed: int, data: st.DataObject) -> None:
    picks = [*range(31, 40), *range(31, 40), *picks]  # some that are there twice, some of each class
    labels = [number % 2 for number in range(18)] + [data.draw(st.integers(0, 1)) for _ in picks[18:]]
    dataset = ImageDataset(part(NOISE[picks], labels), ("a", "b"))
    cleaning = CleaningConfig(leaks="drop", duplicates="drop")
    module = ImageDataModule(DataConfig(val_fraction=0.2, split_seed=split_seed, cleaning=cleaning), dataset=dataset)
    try:
        module.setup()
    except InputError as refused:  # where all that train had of a class had a copy elsewhere
        assume("no training image of class" not in str(refused))
        raise
    seen = [picks[index] for subset in module.splits.values() for index in subset.indices]
    assert len(seen) == len(set(seen))
    assert sum(summary["dropped"] for summary in module.report.splits.values()) == len(picks) - len(seen)
