"""The SHA-256 of data that the workbench does not know: of the items that a user's data loaders serve."""

import logging
import pickle
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from experiments.training.random_state import get_random_state, set_random_state
from experiments.training.trace import Digests, tensors_sha256
from lightning_modules import InputError
from lightning_modules.log import say_once

_MOST = 10_000  # items of a split that are hashed; of more, as many at even distances


@dataclass(frozen=True)
class OwnData:
    """What was found out about the data of a user's LightningDataModule."""

    digests: Digests
    counts: Mapping[str, int]  # samples by split, where they can be counted


def inspect(data: pl.LightningDataModule, path: str, *, with_test: bool) -> OwnData:
    """Sets the data module up, and hashes the items of its loaders. Raises InputError if it fails.

    The digest of the data covers train and val. If the data module has a method `sha256() -> str`, that is the digest.
    Items are drawn with one fixed random state, so that random augmentation does not change their hash.
    """
    with _explained(path):
        data.prepare_data()
        data.setup("fit")
        loaders = {"train": data.train_dataloader(), "val": data.val_dataloader() if has(data, "val") else []}
        if with_test and has(data, "test"):
            data.setup("test")
            loaders["test"] = data.test_dataloader()
        splits = {split: _as_list(loader) for split, loader in loaders.items() if _as_list(loader)}
        hashed = {split: _hash(split, each) for split, each in splits.items()}
        own = getattr(data, "sha256", None)
        fitted = "".join(hashed[split] for split in ("train", "val") if split in hashed)
        whole = str(own()) if callable(own) else sha256(fitted.encode()).hexdigest()
    counts = {split: count for split, each in splits.items() if (count := _count(each)) is not None}
    return OwnData(Digests(whole, hashed), counts)


def has(data: pl.LightningDataModule, split: str) -> bool:
    """Whether the data module serves the split: Lightning's own method raises an error."""
    name = f"{split}_dataloader"
    return getattr(type(data), name) is not getattr(pl.LightningDataModule, name)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns any error of the user's code into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError("data.module", path, f"fails: {reason}", "change it, or data.module_args") from error


def _as_list(loaders: Any) -> list[Any]:
    """Returns a loader, or the loaders of a list or mapping, as a list."""
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def _hash(split: str, loaders: Sequence[Any]) -> str:
    return sha256("".join(_hash_one(split, loader) for loader in loaders).encode()).hexdigest()


def _hash_one(split: str, loader: Any) -> str:
    dataset = loader.dataset if isinstance(loader, DataLoader) else None
    if isinstance(dataset, TensorDataset):
        return tensors_sha256(list(dataset.tensors))
    if dataset is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        why = f"they have no items with an index ({type(loader).__name__})"
        say_once(f"the data of {split} are not hashed: {why}", logging.WARNING)
        return f"{type(loader).__name__} {type(dataset).__name__}"
    count = len(dataset)
    if count > _MOST:
        remedy = "a method sha256() of the data module tells all"
        say_once(f"{split}: {_MOST:,} of {count:,} items are hashed; {remedy}", logging.WARNING)
    digest = sha256(str(count).encode())
    state = get_random_state()
    try:
        random.seed(0)
        torch.manual_seed(0)
        np.random.seed(0)
        for index in np.linspace(0, count - 1, min(count, _MOST), dtype=int).tolist():
            digest.update(tensors_sha256(_plain(dataset[index])).encode())
    finally:
        set_random_state(state)
    return digest.hexdigest()


def _plain(item: Any) -> Any:
    """Returns an item with arrays and pictures as tensors."""
    if isinstance(item, Mapping):
        return {str(name): _plain(value) for name, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if isinstance(item, torch.Tensor | str | int | float | bool | bytes | None):
        return item
    array = np.asarray(item)
    return pickle.dumps(item) if array.dtype.hasobject else torch.from_numpy(np.ascontiguousarray(array))


def _count(loaders: Sequence[Any]) -> int | None:
    datasets: list[Any] = [getattr(loader, "dataset", None) for loader in loaders]
    return sum(map(len, datasets)) if all(hasattr(dataset, "__len__") for dataset in datasets) else None
