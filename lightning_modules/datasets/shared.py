"""Shares one copy of a data set between processes, which map its files, or the user's own file, into memory."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets.base import ImageDataset, Images, LabelledImages, RefusedFile
from lightning_modules.images.on_disk import ImagesOnDisk


def save_shared(dataset: ImageDataset, folder: Path) -> None:
    """Writes the arrays of every part and all names into `folder`. For images on disk it writes only their path."""
    on_disk: dict[str, str] = {}
    for split, part in dataset.parts.items():
        if isinstance(part.images, ImagesOnDisk):
            on_disk[split] = str(part.images.path)
        else:
            np.save(folder / f"{split}_images.npy", part.images)
        np.save(folder / f"{split}_labels.npy", part.labels)
    index = {
        "on_disk": on_disk,
        "class_names": dataset.class_names,
        "has_integer_labels": dataset.has_integer_labels,
        "names": {split: part.names for split, part in dataset.parts.items()},
        "refused": [astuple(file) for file in dataset.refused],
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def map_shared(folder: Path) -> ImageDataset:
    """Returns the data set that `save_shared` wrote, mapped into memory. Changes stay private to a process."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    parts = {
        split: _map_part(folder, split, names, index["on_disk"].get(split)) for split, names in index["names"].items()
    }
    return ImageDataset(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=tuple(index["class_names"]),
        refused=tuple(RefusedFile(*file) for file in index["refused"]),
        has_integer_labels=index["has_integer_labels"],
    )


def _map_part(folder: Path, split: str, names: list[str] | None, on_disk: str | None) -> LabelledImages:
    images: Images = _map(folder / f"{split}_images.npy") if on_disk is None else ImagesOnDisk(on_disk)
    return LabelledImages(images, _map(folder / f"{split}_labels.npy"), None if names is None else tuple(names))


def _map(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="c"))
