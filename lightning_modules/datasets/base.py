"""Defines data sets, and sources that provide them."""

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

Images = NDArray[Any] | ImagesOnDisk  # (N, H, W, C), uint8 or float32; indexing returns arrays in memory


@dataclass(frozen=True)
class LabelledImages:
    """`images` (N, H, W, C), uint8 or float32; `labels` (N,), int64 in 0 … K-1; `names` of the N files, if any."""

    images: Images
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content(self) -> Content:
        """Hashes and extreme values of the images, computed once, in one pass."""
        return content_of(self.images)


@dataclass(frozen=True)
class RefusedFile:
    """A file in the place of a picture that is not a usable picture."""

    split: str  # train, val or test
    name: str  # within the data set's folder
    reason: str
    is_other: bool = False  # its name says that it is no picture, such as notes.txt: it was not opened


@dataclass(frozen=True)
class ImageDataset:
    """A data set with its publisher's splits. `val` and `test` are None if the publisher made none.

    `has_integer_labels`: the class names stand for the integers that the data set has as labels.
    """

    train: LabelledImages
    class_names: tuple[str, ...]
    val: LabelledImages | None = None
    test: LabelledImages | None = None
    refused: tuple[RefusedFile, ...] = ()
    has_integer_labels: bool = False

    @property
    def labels(self) -> list[int] | list[str]:
        """The labels as the data set has them, in the order of the classes."""
        return [int(name) for name in self.class_names] if self.has_integer_labels else list(self.class_names)

    @property
    def parts(self) -> dict[str, LabelledImages]:
        """The existing parts, by split."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: part for split, part in named.items() if part is not None}

    @cached_property
    def normalizations(self) -> dict[tuple[str, str], Any]:
        """The normalizations fitted so far, by kind and hash of the train split: all trials of a sweep share them."""
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
    """Where a source finds its files, and how it converts pictures.

    `root` is the folder for downloads and caches (None: WORKBENCH_DATA, or else the user's cache folder). `path` and
    `labels_path` are the user's own files. `image_size` is (H, W), or None to keep the size. `channels` is 1 (gray) or
    3 (RGB). A .npy larger than `in_memory_mb` MB stays on disk.
    """

    root: str | None = None
    path: str | None = None
    labels_path: str | None = None
    image_size: tuple[int, int] | None = None
    channels: int = 3
    in_memory_mb: int = 256

    def folder(self) -> Path:
        """Returns the folder for downloads and caches. Raises InputError if the user gave one that does not exist."""
        root = self.root or os.environ.get("WORKBENCH_DATA")
        if root is None:
            import pooch

            return Path(pooch.os_cache("lightning-workbench"))
        if not Path(root).is_dir():
            field = "data.root" if self.root else "WORKBENCH_DATA"
            raise InputError(field, root, "no such folder", "create it, or give another folder for downloads")
        return Path(root)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of images. `load` downloads what is missing and reads it. `fetch`, if given, only downloads."""

    summary: str
    load: Callable[[SourceOptions], ImageDataset]
    fetch: Callable[[SourceOptions], Path] | None = None
    takes: frozenset[str] = frozenset()  # the fields of `data` that it reads besides root
