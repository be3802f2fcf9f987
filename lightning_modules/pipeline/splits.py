"""Splits a data set into train, val and test: index sets that are the same for the same `split_seed`."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from lightning_modules.datasets import ImageDataset, Images
from lightning_modules.errors import InputError

_TEST_CUT_SEED = 0  # a test set that is cut from the data is the same for every split_seed


@dataclass(frozen=True)
class Subset:
    """N of a data set's M images: `images` (M, H, W, C) and `labels` (M,) hold all; `indices` (N,) selects."""

    images: Images
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels (N,) of the selected images."""
        targets: NDArray[np.int64] = self.labels[self.indices]
        return targets

    @property
    def order_sha256(self) -> str:
        """SHA-256 of the indices, in order."""
        return indices_sha256(self.indices)


def indices_sha256(indices_N: NDArray[np.int64]) -> str:
    return hashlib.sha256(indices_N.tobytes()).hexdigest()


def make_splits(
    dataset: ImageDataset,
    *,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    groups: NDArray[np.int64] | None = None,
    fold: int | None = None,
    folds: int | None = None,
) -> dict[str, Subset]:
    """Returns train, val and test, stratified by label.

    A test or val set that the publisher made stays whole. A missing test set is cut first: it is `test_fraction` of the
    data and does not depend on `split_seed`. A missing val set is `val_fraction` of the rest. With `folds`, the rest is
    divided into that many disjoint parts instead, and val is part number `fold`, counted from 0. Training images with
    equal `groups` (N,) stay together, so the sizes are as near as whole groups allow. Indices are in rising order.
    Raises InputError if a class is too small.
    """
    pool = _Pool(np.arange(len(dataset.train)), dataset.train.labels, groups, dataset.class_names)
    splits = {name: subset for name, subset in as_published(dataset).items() if name != "train"}
    if folds is not None and "val" in splits:
        raise InputError("data.folds", folds, "the data set has a val split of its own", "leave data.folds out")
    if "test" not in splits:
        pool, cut = pool.cut(test_fraction, _TEST_CUT_SEED, "data.test_fraction")
        splits["test"] = Subset(dataset.train.images, pool.labels, cut)
    if "val" not in splits:
        if folds is not None and fold is not None:
            pool, cut = pool.cut_fold(fold, folds, split_seed)
        else:
            pool, cut = pool.cut(val_fraction, split_seed, "data.val_fraction")
        splits["val"] = Subset(dataset.train.images, pool.labels, cut)
    splits["train"] = Subset(dataset.train.images, pool.labels, pool.indices)
    return {name: splits[name] for name in ("train", "val", "test")}


def as_published(dataset: ImageDataset) -> dict[str, Subset]:
    """Returns the splits that the publisher made, each whole."""
    return {split: Subset(part.images, part.labels, np.arange(len(part))) for split, part in dataset.parts.items()}


@dataclass(frozen=True)
class _Pool:
    """The images that are not in a split yet: `indices` into `labels` and `groups`, which cover all images."""

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    class_names: Sequence[str]

    def cut(self, fraction: float, seed: int, field: str) -> tuple["_Pool", NDArray[np.int64]]:
        """Returns the pool without this share of its images, and the indices of the share."""
        if self.groups is not None:
            self._check_classes(2, field, fraction)
            return self._take(_nearest_share(fraction, self._most_folds()), seed)
        labels = self.labels[self.indices]
        try:
            kept, cut = train_test_split(self.indices, test_size=fraction, random_state=seed, stratify=labels)
        except ValueError as error:
            smallest = int(np.bincount(labels)[np.unique(labels)].min())
            message = f"cannot split {len(labels)} images by class, with {smallest} in the smallest class: {error}"
            raise InputError(field, fraction, message, "give more images of each class, or another fraction") from error
        return replace(self, indices=np.sort(kept)), np.sort(cut)

    def cut_fold(self, fold: int, folds: int, seed: int) -> tuple["_Pool", NDArray[np.int64]]:
        """Returns the pool without one of `folds` parts, and the indices of the part."""
        self._check_classes(folds, "data.folds", folds)
        return self._take(_Share(folds, [fold]), seed)

    def _take(self, share: "_Share", seed: int) -> tuple["_Pool", NDArray[np.int64]]:
        labels = self.labels[self.indices]
        kind = StratifiedKFold if self.groups is None else StratifiedGroupKFold
        parts = kind(n_splits=share.of, shuffle=True, random_state=seed)
        groups = None if self.groups is None else self.groups[self.indices]
        with warnings.catch_warnings():  # a class with fewer images than parts is no fault if there are groups
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            places = [place for _, place in parts.split(self.indices, labels, groups)]
        is_cut = np.isin(np.arange(len(labels)), np.concatenate([places[number] for number in share.parts]))
        return replace(self, indices=self.indices[~is_cut]), self.indices[is_cut]

    def _check_classes(self, least: int, field: str, value: object) -> None:
        """Raises InputError unless each class has at least `least` images or, with groups, is in as many groups."""
        pairs = np.stack([self.labels, np.arange(len(self.labels)) if self.groups is None else self.groups])
        labels, counts = np.unique(np.unique(pairs[:, self.indices], axis=1)[0], return_counts=True)
        if counts.min() < least:
            name, what = self.class_names[labels[counts.argmin()]], "images" if self.groups is None else "groups"
            message = f"class {name!r} has {counts.min()} {what}, but the splits need {least}"
            raise InputError(field, value, message, f"give more {what} of it, or another number")

    def _most_folds(self) -> int:
        """Returns the largest number of parts into which the groups can be divided."""
        assert self.groups is not None
        largest_class = np.bincount(self.labels[self.indices]).max()
        return int(min(len(np.unique(self.groups[self.indices])), largest_class))


@dataclass(frozen=True)
class _Share:
    """The parts with the numbers `parts`, out of `of` parts of equal size."""

    of: int
    parts: Sequence[int]


def _nearest_share(fraction: float, most: int) -> _Share:
    """Returns the share of equal parts nearest to `fraction`: of at most `most` parts, and usually of at most 20."""
    near = Fraction(fraction).limit_denominator(20) or Fraction(1, round(1 / fraction))
    of = min(near.denominator, most)
    return _Share(of, range(min(max(1, round(fraction * of)), of - 1)))
