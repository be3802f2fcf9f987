"""The user's own NumPy files: one `.npz`, or a `.npy` of images with a `.npy` of labels. Nothing is unpickled."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets.base import ImageDataset, LabelledImages, Location, Source
from lightning_modules.errors import InputError

_CHANNELS = (1, 3, 4)


def _load(location: Location) -> ImageDataset:
    if location.path is None:
        remedy = "give the .npz, or the .npy of images, as --data.path FILE"
        raise InputError("data.path", None, "source arrays needs a file", remedy)
    if location.path.endswith(".npy"):
        if location.labels_path is None:
            remedy = "give the .npy of their labels as --data.labels_path FILE"
            raise InputError("data.labels_path", None, "a .npy of images needs its labels", remedy)
        images = _read("data.path", location.path)
        labels = _read("data.labels_path", location.labels_path)
        return _dataset({"x": images, "y": labels}, location.path)
    archive = _read("data.path", location.path)
    if not isinstance(archive, Mapping):
        raise InputError(
            "data.path", location.path, "is neither .npz nor .npy", "save it with numpy.savez or numpy.save"
        )
    return _dataset(archive, location.path)


def _read(field: str, path: str) -> Any:
    if not Path(path).is_file():
        raise InputError(field, path, "no such file", "check the path")
    try:
        loaded = np.load(path, mmap_mode="c", allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "save plain numeric or string arrays with numpy.save or numpy.savez"
        raise InputError(field, path, f"cannot be read as NumPy arrays: {reason}", remedy) from error


def _dataset(arrays: Mapping[str, NDArray[Any]], path: str) -> ImageDataset:
    names = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}
    if "x" in arrays:
        names = {"train": ("x", "y")}
    missing = [name for name in names["train"] if name not in arrays]
    if missing:
        remedy = "name them x and y, or x_train, y_train and, where they exist, x_val, y_val, x_test, y_test"
        raise InputError("data.path", path, f"holds {sorted(arrays)} and no {missing[0]}", remedy)
    given = {part: pair for part, pair in names.items() if pair[0] in arrays}
    class_values = np.unique(_labels(arrays, names["train"][1], path))
    parts = {part: _part(arrays, *pair, class_values, path) for part, pair in given.items()}
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise InputError("data.path", path, f"its splits differ in image shape: {sorted(shapes)}", "give all one shape")
    return ImageDataset(class_names=tuple(str(value) for value in class_values), **parts)


def _part(arrays: Mapping[str, NDArray[Any]], x: str, y: str, class_values: NDArray[Any], path: str) -> LabelledImages:
    images, labels = _images(arrays[x], x, path), _labels(arrays, y, path)
    if len(images) != len(labels):
        message = f"{x} has {len(images)} images and {y} has {len(labels)} labels"
        raise InputError("data.path", path, message, "give one label an image")
    indices = np.searchsorted(class_values, labels).clip(max=len(class_values) - 1)
    unknown = class_values[indices] != labels
    if unknown.any():
        message = f"{y} has labels that train has not, such as {labels[unknown][0]!r}"
        raise InputError("data.path", path, message, "give training images of every class")
    return LabelledImages(images, indices.astype(np.int64))


def _labels(arrays: Mapping[str, NDArray[Any]], y: str, path: str) -> NDArray[Any]:
    labels = arrays.get(y)
    if labels is None:
        raise InputError("data.path", path, f"has no {y}", f"add the labels as {y}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        message = f"{y} is {labels.dtype} of shape {labels.shape}"
        raise InputError("data.path", path, message, "give integer or string labels of shape (N,)")
    return labels


def _images(images: NDArray[Any], name: str, path: str) -> NDArray[Any]:
    """To (N, H, W, C), uint8 as it is (bool becomes 0 and 1), every other number float32."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    elif images.ndim == 4 and images.shape[3] not in _CHANNELS and images.shape[1] in _CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in _CHANNELS or images.dtype.kind not in "biuf" or 0 in images.shape:
        message = f"{name} is {images.dtype} of shape {images.shape}"
        remedy = "give numbers of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"
        raise InputError("data.path", path, message, remedy)
    if images.dtype == np.bool_:
        return images.astype(np.uint8)
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError("data.path", path, f"{name} holds NaN or Inf", "replace them before saving")
    return images


SOURCES = {
    "arrays": Source(summary="your .npz (x, y or x_train, y_train, …), or .npy images with .npy labels", load=_load)
}
