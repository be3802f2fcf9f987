"""Decodes many picture files once, in parallel, into a single file that later runs map into memory as an array."""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from lightning_modules.errors import InputError, reading
from lightning_modules.images.files import file_sha256
from lightning_modules.images.pictures import PictureError, decode, quiet
from lightning_modules.log import LOG

FOLDER = "pictures"  # in the folder for downloads and caches
PIXELS, INDEX = ".pixels", ".json"  # suffixes of the two files of one set of pictures
_ROUND = 1024  # files given to the threads at a time
_LAYOUT = 1  # raise it if the same files would give other bytes
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pictures:
    """`images` (N, H, W, C), the numbers of their N files (`kept`), and by number why other files were `refused`."""

    images: NDArray[np.uint8]
    kept: list[int]
    refused: dict[int, str]


@dataclass(frozen=True)
class PictureFiles:
    """Picture files: `names` relative to `folder`, the `size` (H, W; None: their own) and `channels` to decode to."""

    folder: Path
    names: Sequence[str]
    size: tuple[int, int] | None
    channels: int

    def load(self, cache: Path) -> Pictures:
        """Returns the pictures, from `cache` if exactly these files were decoded before.

        Raises InputError if no picture can be used, if they differ in size and no size is given, or if the cache cannot
        be written.
        """
        place = cache / self._key()
        try:
            if (found := _read(place)) is None:
                cache.mkdir(parents=True, exist_ok=True)
                self._decode_into(place)
                found = _read(place)
        except OSError as error:
            message = f"the pictures cannot be stored in {cache}: {error.strerror}"
            raise InputError("data.root", str(cache.parent), message, "choose a folder that can be written") from error
        assert found is not None
        return found

    def _key(self) -> str:
        """SHA-256 of everything that determines the array: names, contents, size, channels, and Pillow's version."""
        digest = hashlib.sha256(repr((_LAYOUT, PIL.__version__, self.size, self.channels)).encode())
        for name, contents in zip(self.names, _parallel(self._sha256, self.names), strict=True):
            digest.update(f"{name}\0{contents}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _sha256(self, name: str) -> str:
        with self._reading(name):
            try:
                return file_sha256(self.folder / name)
            except PermissionError:
                return "unreadable"

    def _decode_into(self, place: Path) -> None:
        """Writes the pixels, then the index that describes them."""
        # Process ids repeat in containers that share the folder.
        arriving = place.with_suffix(f".{secrets.token_hex(4)}.part")
        kept: list[int] = []
        refused: dict[int, str] = {}
        shape: tuple[int, ...] | None = None
        try:
            with arriving.open("wb") as file, quiet():
                decoded = _with_progress(_parallel(self._decode, self.names), len(self.names), self.folder)
                for number, picture in enumerate(decoded):
                    if isinstance(picture, str):
                        refused[number] = picture
                        continue
                    shape = shape or picture.shape
                    if picture.shape != shape:
                        raise self._sizes_differ(kept[0], shape, number, picture.shape)
                    file.write(picture.tobytes())
                    kept.append(number)
            if shape is None:
                reason = f"{self.names[0]} {refused[0]}" if refused else "no picture in any class folder"
                remedy = "give a folder of class/picture, or of train/class/picture"
                raise InputError("data.path", str(self.folder), f"has no usable picture: {reason}", remedy)
            arriving.replace(place.with_suffix(PIXELS))
            index = {"shape": [len(kept), *shape], "kept": kept, "refused": refused}
            arriving.write_text(json.dumps(index), encoding="utf-8")
            arriving.replace(place.with_suffix(INDEX))
        finally:
            arriving.unlink(missing_ok=True)

    def _decode(self, name: str) -> NDArray[np.uint8] | str:
        with self._reading(name):
            try:
                return decode(self.folder / name, self.size, self.channels)
            except PictureError as error:
                return str(error)

    def _reading(self, name: str) -> AbstractContextManager[None]:
        """Makes a failure of the machine an InputError: it says nothing about the file, so nothing is kept."""
        remedy = "run the command again, or remove the file"
        return reading("data.path", str(self.folder / name), "a picture", remedy)

    def _sizes_differ(self, one: int, shape: Sequence[int], other: int, other_shape: Sequence[int]) -> InputError:
        sizes = (f"{self.names[k]} is {h}×{w}" for k, (h, w, _) in ((one, shape), (other, other_shape)))
        message = f"the pictures differ in size: {', '.join(sizes)} (height×width)"
        return InputError("data.image_size", None, message, "give one size for all: --data.image_size 64")


def _read(place: Path) -> Pictures | None:
    """Returns the pictures stored at `place`, or None if nothing or only a part is stored."""
    pixels, index = place.with_suffix(PIXELS), place.with_suffix(INDEX)
    if not (index.exists() and pixels.exists()):
        return None
    described: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    shape = tuple(described["shape"])
    if pixels.stat().st_size != np.prod(shape):
        return None
    images = np.asarray(np.memmap(pixels, np.uint8, "c", shape=shape))
    return Pictures(images, described["kept"], {int(number): why for number, why in described["refused"].items()})


def _parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yields `work(item)` in order. Uses one thread per core, because hashing and Pillow release the GIL."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(items), _ROUND):
            yield from threads.map(work, items[start : start + _ROUND])


def _with_progress(items: Iterator[Item], total: int, folder: Path) -> Iterator[Item]:
    """Yields the items with a progress bar, or without a terminal with a log line at the start and every tenth."""
    if sys.stderr.isatty():
        yield from tqdm(items, "decoding", total)
        return
    step = max(1000, total // 10)
    for number, item in enumerate(items):
        if number % step == 0:
            LOG.info(f"decoding the pictures of {folder}: {number} of {total}")
        yield item
