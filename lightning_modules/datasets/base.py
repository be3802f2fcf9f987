"""What every data set is, and what a source of one has to offer."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.errors import InputError
from lightning_modules.images.content import Content, chunks, content_of
from lightning_modules.images.on_disk import ImagesOnDisk

Images = NDArray[Any] | ImagesOnDisk  # (N, H, W, C), uint8 or float32; rows of it are arrays in memory


@dataclass(frozen=True)
class LabelledImages:
    """`images` (N, H, W, C), uint8 or float32; `labels` (N,), int64 in 0 … K-1; `names` of N files, where they are."""

    images: Images
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content(self) -> Content:
        """What each image holds; found once, in one pass."""
        return content_of(self.images)


@dataclass(frozen=True)
class RefusedFile:
    """A file that stands where a picture should, and is none that can be used."""

    split: str  # train, val or test
    name: str  # within the data set's folder
    reason: str


@dataclass(frozen=True)
class ImageDataset:
    """A data set as its publisher splits it; `val` and `test` are None where the publisher made none."""

    train: LabelledImages
    class_names: tuple[str, ...]
    val: LabelledImages | None = None
    test: LabelledImages | None = None
    refused: tuple[RefusedFile, ...] = ()

    @property
    def parts(self) -> dict[str, LabelledImages]:
        """The parts that there are, by split."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: part for split, part in named.items() if part is not None}

    @cached_property
    def normalizations(self) -> dict[tuple[str, str], Any]:
        """Those fitted to it so far, by kind and by the order of the images: all trials of a sweep need the same."""
        return {}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over names, shapes, types and every byte of all parts, as read."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for split, part in self.parts.items():
            for array in (part.images, part.labels):
                digest.update(f"{split} {array.shape} {array.dtype.str}".encode())
                for rows in chunks(array):
                    digest.update(np.ascontiguousarray(array[rows]).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Where a source looks, and what it makes of pictures.

    `root` holds downloads and caches (None: WORKBENCH_DATA, else the user's cache folder), `path` and `labels_path` are
    the user's own. `image_size` is (H, W), None: as they are; `channels` is 1 (gray) or 3 (RGB). A .npy larger than
    `in_memory_mb` MB stays on disk.
    """

    root: str | None = None
    path: str | None = None
    labels_path: str | None = None
    image_size: tuple[int, int] | None = None
    channels: int = 3
    in_memory_mb: int = 256

    def folder(self) -> Path:
        """The folder of downloads and caches, which exists or can be made; InputError where a stated one is missing."""
        root = self.root or os.environ.get("WORKBENCH_DATA")
        if root is None:
            import pooch

            return Path(pooch.os_cache("lightning-workbench"))
        if not Path(root).is_dir():
            field = "data.root" if self.root else "WORKBENCH_DATA"
            raise InputError(
                field, root, "no such folder", "create it, or name the folder that downloads should live in"
            )
        return Path(root)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of images. `load` reads it, fetching what is missing; `fetch`, where there is one, only downloads."""

    summary: str
    load: Callable[[SourceOptions], ImageDataset]
    fetch: Callable[[SourceOptions], Path] | None = None
    takes: frozenset[str] = frozenset()  # the fields of `data` that it reads beside root
