"""What every data set is, and what a source of one has to offer."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledImages:
    """`images` (N, H, W, C), uint8 or float32; `labels` (N,), int64 in 0 … K-1."""

    images: NDArray[Any]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageDataset:
    """A data set as its publisher splits it; `val` and `test` are None where the publisher made none."""

    train: LabelledImages
    class_names: tuple[str, ...]
    val: LabelledImages | None = None
    test: LabelledImages | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over names, shapes, types and every byte of all parts, as read."""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for name, part in (("train", self.train), ("val", self.val), ("test", self.test)):
            if part is not None:
                for array in (part.images, part.labels):
                    digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a source looks: `root` holds downloads, `path` and `labels_path` are the user's own files."""

    root: str | None = None
    path: str | None = None
    labels_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of images. `load` reads it, fetching what is missing; `fetch`, where there is one, only downloads."""

    summary: str
    load: Callable[[Location], ImageDataset]
    fetch: Callable[[Location], Path] | None = None
    takes_path: bool = False  # whether it reads the user's own files
