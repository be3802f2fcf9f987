"""A data set in files that several processes map into memory: one copy for all of them, or the user's own file."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets.base import ImageDataset, Images, LabelledImages, RefusedFile
from lightning_modules.images.on_disk import ImagesOnDisk


def save_shared(dataset: ImageDataset, folder: Path) -> None:
    """Writes every part's arrays, and all names, into `folder`; of images on disk the path of their file."""
    on_disk: dict[str, str] = {}
    for split, part in dataset.parts.items():
        if isinstance(part.images, ImagesOnDisk):
            on_disk[split] = str(part.images.path)
        else:
            np.save(folder / f"{split}_images.npy", part.images)
        np.save(folder / f"{split}_labels.npy", part.labels)
    told = {
        "on_disk": on_disk,
        "class_names": dataset.class_names,
        "names": {split: part.names for split, part in dataset.parts.items()},
        "refused": [astuple(file) for file in dataset.refused],
    }
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def map_shared(folder: Path) -> ImageDataset:
    """The data set that `save_shared` wrote, mapped: what one process changes stays its own."""
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    parts = {
        split: _map_part(folder, split, names, told["on_disk"].get(split)) for split, names in told["names"].items()
    }
    return ImageDataset(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=tuple(told["class_names"]),
        refused=tuple(RefusedFile(*file) for file in told["refused"]),
    )


def _map_part(folder: Path, split: str, names: list[str] | None, on_disk: str | None) -> LabelledImages:
    images: Images = _map(folder / f"{split}_images.npy") if on_disk is None else ImagesOnDisk(on_disk)
    return LabelledImages(images, _map(folder / f"{split}_labels.npy"), None if names is None else tuple(names))


def _map(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="c"))
