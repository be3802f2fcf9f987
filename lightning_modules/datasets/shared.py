"""A data set in files that several processes map into memory: one copy for all of them."""

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np

from lightning_modules.datasets.base import ImageDataset, LabelledImages, RefusedFile


def save_shared(dataset: ImageDataset, folder: Path) -> None:
    """Writes every part's arrays, and all names, into `folder`."""
    for split, part in dataset.parts.items():
        np.save(folder / f"{split}_images.npy", part.images)
        np.save(folder / f"{split}_labels.npy", part.labels)
    told = {
        "class_names": dataset.class_names,
        "names": {split: part.names for split, part in dataset.parts.items()},
        "refused": [astuple(file) for file in dataset.refused],
    }
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def map_shared(folder: Path) -> ImageDataset:
    """The data set that `save_shared` wrote, mapped: what one process changes stays its own."""
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    parts = {split: _map_part(folder, split, names) for split, names in told["names"].items()}
    return ImageDataset(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=tuple(told["class_names"]),
        refused=tuple(RefusedFile(*file) for file in told["refused"]),
    )


def _map_part(folder: Path, split: str, names: list[str] | None) -> LabelledImages:
    images, labels = (
        np.asarray(np.load(folder / f"{split}_{kind}.npy", mmap_mode="c")) for kind in ("images", "labels")
    )
    return LabelledImages(images, labels, None if names is None else tuple(names))
