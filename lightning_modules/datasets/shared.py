"""A data set in files that several processes map into memory: one copy for all of them."""

from pathlib import Path

import numpy as np

from lightning_modules.datasets.base import ImageDataset, LabelledImages

_PARTS, _ARRAYS = ("train", "val", "test"), ("images", "labels")


def save_shared(dataset: ImageDataset, folder: Path) -> None:
    """Writes every part's arrays into `folder`."""
    for name in _PARTS:
        if (part := getattr(dataset, name)) is not None:
            for array in _ARRAYS:
                np.save(folder / f"{name}_{array}.npy", getattr(part, array))
    np.save(folder / "class_names.npy", np.array(dataset.class_names))


def map_shared(folder: Path) -> ImageDataset:
    """The data set that `save_shared` wrote, mapped: what one process changes stays its own."""
    train, val, test = (_map_part(folder, name) for name in _PARTS)
    assert train is not None
    names = tuple(str(name) for name in np.load(folder / "class_names.npy"))
    return ImageDataset(train=train, val=val, test=test, class_names=names)


def _map_part(folder: Path, name: str) -> LabelledImages | None:
    paths = [folder / f"{name}_{array}.npy" for array in _ARRAYS]
    return LabelledImages(*(np.asarray(np.load(path, mmap_mode="c")) for path in paths)) if paths[0].exists() else None
