"""Who trains, who validates, who tests: index sets over a data set, the same for the same `split_seed`."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from lightning_modules.datasets import ImageDataset, LabelledImages
from lightning_modules.errors import InputError

_TEST_CUT_SEED = 0  # a test set cut from the data is one and the same for every split_seed


@dataclass(frozen=True)
class Subset:
    """Some of a data set's images: `images` (M, H, W, C) and `labels` (M,) hold all, `indices` (N,) says which."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def order_sha256(self) -> str:
        """SHA-256 of which images these are, in which order."""
        return indices_sha256(self.indices)


def indices_sha256(indices_N: NDArray[np.int64]) -> str:
    return hashlib.sha256(indices_N.tobytes()).hexdigest()


def make_splits(
    dataset: ImageDataset, *, val_fraction: float, test_fraction: float, split_seed: int
) -> dict[str, Subset]:
    """Train, val and test, stratified by label.

    A test or val set that the publisher made is kept whole. A missing test set is cut first, as `test_fraction` of the
    data and independent of `split_seed`; a missing val set is `val_fraction` of what remains. Indices are in
    rising order.
    """
    pool = np.arange(len(dataset.train))
    labels = dataset.train.labels
    official = {"val": dataset.val, "test": dataset.test}
    splits = {name: _whole(part) for name, part in official.items() if part is not None}
    if "test" not in splits:
        pool, cut = _cut(pool, labels, test_fraction, _TEST_CUT_SEED, "data.test_fraction")
        splits["test"] = Subset(dataset.train.images, labels, cut)
    if "val" not in splits:
        pool, cut = _cut(pool, labels, val_fraction, split_seed, "data.val_fraction")
        splits["val"] = Subset(dataset.train.images, labels, cut)
    splits["train"] = Subset(dataset.train.images, labels, pool)
    return {name: splits[name] for name in ("train", "val", "test")}


def _whole(part: LabelledImages) -> Subset:
    return Subset(part.images, part.labels, np.arange(len(part)))


def _cut(
    pool: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, seed: int, field: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        kept, cut = train_test_split(pool, test_size=fraction, random_state=seed, stratify=labels[pool])
    except ValueError as error:
        smallest = int(np.bincount(labels[pool])[np.unique(labels[pool])].min())
        message = f"cannot split {len(pool)} images, {smallest} in the smallest class, class by class: {error}"
        raise InputError(field, fraction, message, "give more images of each class, or another fraction") from error
    return np.sort(kept), np.sort(cut)
