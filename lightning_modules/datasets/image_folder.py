"""Reads a folder of pictures: `class/picture`, or `train/class/picture` with optional `val/` and `test/`."""

import mimetypes
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_modules.datasets.base import ImageDataset, LabelledImages, RefusedFile, Source, SourceOptions
from lightning_modules.errors import InputError
from lightning_modules.images.pictures import SUFFIXES
from lightning_modules.log import LOG

_SPLITS = ("train", "val", "test")
_SYSTEM_FILES = {"Thumbs.db", "desktop.ini"}  # skipped, as are hidden files: file managers create them


@dataclass(frozen=True)
class _File:
    """One file of a class; `name` is relative to the data set's folder."""

    split: str
    label: int
    name: str


def _load(options: SourceOptions) -> ImageDataset:
    from lightning_modules.images.picture_cache import FOLDER, PictureFiles

    if options.path is None or not Path(options.path).is_dir():
        message = "source image_folder needs a folder" if options.path is None else "no such folder"
        raise InputError("data.path", options.path, message, "give the folder of class/picture as --data.path FOLDER")
    folder = Path(options.path).resolve()
    try:
        class_names, files, refused = _scan(folder)
    except OSError as error:
        message = f"{error.filename} cannot be read: {error.strerror}"
        raise InputError("data.path", str(folder), message, "change its permissions") from error
    names = [file.name for file in files]
    _tell_of_scaling(folder, names, options.image_size)
    found = PictureFiles(folder, names, options.image_size, options.channels).load(options.folder() / FOLDER)
    refused += [RefusedFile(files[k].split, files[k].name, reason) for k, reason in found.refused.items()]
    parts = {}
    for split in _SPLITS:
        rows = [row for row, k in enumerate(found.kept) if files[k].split == split]
        if rows:  # the files are sorted by split
            of_split = [files[found.kept[row]] for row in rows]
            labels = np.array([file.label for file in of_split], np.int64)
            images = found.images[rows[0] : rows[-1] + 1]
            parts[split] = LabelledImages(images, labels, tuple(file.name for file in of_split))
    if "train" not in parts:
        raise InputError("data.path", str(folder), "holds no picture for training", "put pictures into train/class/")
    return ImageDataset(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=class_names,
        refused=tuple(refused),
    )


def _tell_of_scaling(folder: Path, names: Sequence[str], size: tuple[int, int] | None) -> None:
    """Says so if the first picture is scaled."""
    if size is None or not names:
        return
    with suppress(OSError, ValueError), Image.open(folder / names[0]) as picture:
        if (picture.height, picture.width) != size:
            own = f"{picture.height}×{picture.width}"
            LOG.info(f"pictures such as {names[0]} ({own}) are scaled to {size[0]}×{size[1]} (data.image_size)")


def _scan(folder: Path) -> tuple[tuple[str, ...], list[_File], list[RefusedFile]]:
    """Returns the class names, all files of the classes, sorted by split, and the files that must not be opened."""
    splits = _splits(folder)
    class_names = tuple(path.name for path in _folders(splits["train"]))
    labels = {name: label for label, name in enumerate(class_names)}
    files: list[_File] = []
    refused: list[RefusedFile] = []
    for split, split_folder in splits.items():
        stray = (path for path in split_folder.iterdir() if path.suffix.lower() in SUFFIXES)
        refused += [
            RefusedFile(split, path.relative_to(folder).as_posix(), "is not in a class folder")
            for path in sorted(stray)
        ]
        for class_folder in _folders(split_folder):
            if class_folder.name not in labels:
                message = f"{class_folder.relative_to(folder)} is a class that train does not have"
                raise InputError("data.path", str(folder), message, "give training pictures of every class")
            label = labels[class_folder.name]
            for path in _files_of(class_folder):
                name = path.relative_to(folder).as_posix()
                if _is_other(path):
                    refused.append(RefusedFile(split, name, "is no picture by its name", is_other=True))
                elif reason := _unfit(path, folder):
                    refused.append(RefusedFile(split, name, reason))
                else:
                    files.append(_File(split, label, name))
    return class_names, files, refused


def _splits(folder: Path) -> dict[str, Path]:
    """Returns the folder of each split. Without split folders, or if there are others too, all is train."""
    found = {path.name: path for path in _folders(folder)}
    if "train" not in found or not found.keys() <= set(_SPLITS):
        return {"train": folder}
    for path in found.values():
        if path.is_symlink():
            reason = _unfit(path, folder)
            raise InputError("data.path", str(path), reason, "replace the link by the folder itself")
    return {split: found[split] for split in _SPLITS if split in found}


def _folders(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_of(class_folder: Path) -> Iterator[Path]:
    """Yields all files of a class except hidden and system files. A link to a folder counts as a file."""
    if class_folder.is_symlink():
        yield class_folder
        return
    for parent, folders, files in os.walk(class_folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*files, *links]):
            if not name.startswith(".") and name not in _SYSTEM_FILES:
                yield Path(parent, name)


def _is_other(path: Path) -> bool:
    kind, _ = mimetypes.guess_type(path.name)
    return path.suffix != "" and not (kind or "").startswith("image/")


def _raise(error: OSError) -> None:
    raise error


def _unfit(path: Path, folder: Path) -> str:
    """Returns why a file must not be opened, or an empty string."""
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(folder):
        return "is a symbolic link out of the folder"
    if path.is_dir():
        return "is a symbolic link to a folder"
    return "" if path.is_file() else "is not a regular file"


SOURCES = {
    "image_folder": Source(
        summary="your folder of pictures, class/picture or train/class/picture (PNG, JPEG, TIFF, BMP, WebP)",
        load=_load,
        takes=frozenset({"path", "image_size", "channels"}),
    )
}
