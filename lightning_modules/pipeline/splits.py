"""Who trains, who validates, who tests: index sets over a data set, the same for the same `split_seed`."""

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

_TEST_CUT_SEED = 0  # a test set cut from the data is one and the same for every split_seed


@dataclass(frozen=True)
class Subset:
    """Some of a data set's images: `images` (M, H, W, C) and `labels` (M,) hold all, `indices` (N,) says which."""

    images: Images
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels (N,) of these images alone."""
        targets: NDArray[np.int64] = self.labels[self.indices]
        return targets

    @property
    def order_sha256(self) -> str:
        """SHA-256 of which images these are, in which order."""
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
    """Train, val and test, stratified by label.

    A test or val set that the publisher made is kept whole. A missing test set is cut first, as `test_fraction` of the
    data and independent of `split_seed`; a missing val set is `val_fraction` of what remains, or, of `folds` parts of
    it that share no image, number `fold`, counted from 0. Images of train whose `groups` (N,) are equal stay together;
    shares are then as near as whole groups allow. Indices are in rising order. Raises InputError where a class is too
    small.
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
    """The parts that the publisher made, each whole."""
    return {split: Subset(part.images, part.labels, np.arange(len(part))) for split, part in dataset.parts.items()}


@dataclass(frozen=True)
class _Pool:
    """The images that are not in a split yet: `indices` into `labels` and `groups`, which are those of all."""

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    class_names: Sequence[str]

    def cut(self, fraction: float, seed: int, field: str) -> tuple["_Pool", NDArray[np.int64]]:
        """The pool less that share of it, and the indices of the share."""
        if self.groups is not None:
            self._check_classes(2, field, fraction)
            return self._take(_of_groups(fraction, self._most_folds()), seed)
        labels = self.labels[self.indices]
        try:
            kept, cut = train_test_split(self.indices, test_size=fraction, random_state=seed, stratify=labels)
        except ValueError as error:
            smallest = int(np.bincount(labels)[np.unique(labels)].min())
            message = f"cannot split {len(labels)} images, {smallest} in the smallest class, class by class: {error}"
            raise InputError(field, fraction, message, "give more images of each class, or another fraction") from error
        return replace(self, indices=np.sort(kept)), np.sort(cut)

    def cut_fold(self, fold: int, folds: int, seed: int) -> tuple["_Pool", NDArray[np.int64]]:
        """The pool less one of `folds` parts, and the indices of the part."""
        self._check_classes(folds, "data.folds", folds)
        return self._take(_Share(folds, [fold]), seed)

    def _take(self, share: "_Share", seed: int) -> tuple["_Pool", NDArray[np.int64]]:
        labels = self.labels[self.indices]
        kind = StratifiedKFold if self.groups is None else StratifiedGroupKFold
        parts = kind(n_splits=share.of, shuffle=True, random_state=seed)
        groups = None if self.groups is None else self.groups[self.indices]
        with warnings.catch_warnings():  # that a class is in fewer images than there are parts; groups may be larger
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            places = [place for _, place in parts.split(self.indices, labels, groups)]
        is_cut = np.isin(np.arange(len(labels)), np.concatenate([places[number] for number in share.parts]))
        return replace(self, indices=self.indices[~is_cut]), self.indices[is_cut]

    def _check_classes(self, least: int, field: str, value: object) -> None:
        """Raises InputError unless each class has `least` images, or, where there are groups, is in so many groups."""
        pairs = np.stack([self.labels, np.arange(len(self.labels)) if self.groups is None else self.groups])
        labels, counts = np.unique(np.unique(pairs[:, self.indices], axis=1)[0], return_counts=True)
        if counts.min() < least:
            name, what = self.class_names[labels[counts.argmin()]], "images" if self.groups is None else "groups"
            message = f"class {name!r} has {counts.min()} {what} to be split among {least}"
            raise InputError(field, value, message, f"give more {what} of it, or another number")

    def _most_folds(self) -> int:
        """Into how many parts groups can be sorted at most."""
        assert self.groups is not None
        largest_class = np.bincount(self.labels[self.indices]).max()
        return int(min(len(np.unique(self.groups[self.indices])), largest_class))


@dataclass(frozen=True)
class _Share:
    """`parts` of as many parts as `of` says."""

    of: int
    parts: Sequence[int]


def _of_groups(fraction: float, most: int) -> _Share:
    """The share nearest to `fraction` that up to 20 parts of about equal size, or `most`, can make."""
    near = Fraction(fraction).limit_denominator(20) or Fraction(1, round(1 / fraction))
    of = min(near.denominator, most)
    return _Share(of, range(min(max(1, round(fraction * of)), of - 1)))
