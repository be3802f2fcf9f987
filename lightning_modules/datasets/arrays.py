"""Reads the user's own NumPy files: an `.npz`, or a `.npy` of images and one of labels. Nothing is unpickled."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets.base import ImageDataset, Images, LabelledImages, Source, SourceOptions
from lightning_modules.errors import InputError
from lightning_modules.images.layout import CHANNELS, as_pixels, channels_last
from lightning_modules.images.on_disk import ImagesOnDisk

_BOMB_BYTES, _BOMB_RATIO = 2**26, 200  # an archive that unpacks to more than both is refused
_NPY, _ZIP = b"\x93NUMPY", b"PK"  # how the files begin
_PAIRS = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}


@dataclass(frozen=True)
class _Array:
    """An array and its origin, which error messages name."""

    values: NDArray[Any]
    name: str
    field: str
    path: str

    def refused(self, message: str, remedy: str) -> InputError:
        return InputError(self.field, self.path, f"{self.name} {message}", remedy)

    @property
    def shape(self) -> str:
        return f"{self.values.dtype} of shape {self.values.shape}"


def _load(options: SourceOptions) -> ImageDataset:
    if options.path is None:
        remedy = "give the .npz, or the .npy of images, as --data.path FILE"
        raise InputError("data.path", None, "source arrays needs a file", remedy)
    arrays = read_arrays("data.path", options.path)
    if set(arrays) == {"x"}:
        if options.labels_path is None:
            remedy = "give the .npy of their labels as --data.labels_path FILE"
            raise InputError("data.labels_path", None, "the images need labels", remedy)
        labels = read_arrays("data.labels_path", options.labels_path)
        if set(labels) != {"x"}:
            raise InputError("data.labels_path", options.labels_path, "holds several arrays", "give a .npy of labels")
        arrays["y"] = replace(labels["x"], name="y")
    elif options.labels_path is not None:
        raise InputError("data.labels_path", options.labels_path, "data.path holds labels already", "leave it out")
    return _dataset(_pairs(arrays, "data.path", options.path), 10**6 * options.in_memory_mb)


def from_arrays(given: Mapping[str, Any], field: str, origin: str) -> ImageDataset:
    """Returns the data set in arrays that are named as in an .npz. `field` and `origin` say where they come from."""
    arrays = {name: _Array(np.asarray(values), name, field, origin) for name, values in given.items()}
    return _dataset(_pairs(arrays, field, origin), 10**6 * SourceOptions.in_memory_mb)


def read_arrays(field: str, path: str) -> dict[str, _Array]:
    """Returns the arrays of an .npz by name, or the array of a .npy, mapped into memory, as `x`."""
    if Path(path).is_dir():
        remedy = "give a .npz or .npy file; folders of pictures are data of source image_folder"
        raise InputError(field, path, "is a folder", remedy)
    if not Path(path).is_file():
        raise InputError(field, path, "no such file", "check the path")
    try:
        # Opened here, because NumPy leaves a damaged archive open. The product of declared sizes may overflow.
        with Path(path).open("rb") as file, np.errstate(over="raise"):
            start = file.read(len(_NPY))
            if not start.startswith((_NPY, _ZIP)):
                raise ValueError("it is neither a .npy nor a .npz file")
            if start == _NPY:
                return {"x": _Array(np.load(path, mmap_mode="r", allow_pickle=False), "x", field, path)}
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            _check_members(archive.zip.infolist())
            return {name: _Array(archive[name], name, field, path) for name in archive.files}
    except Exception as error:  # NumPy, zipfile and zlib raise many kinds; tokenize.TokenError is one
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, which are not unpickled"
        remedy = "save plain numeric or string arrays with numpy.save or numpy.savez"
        raise InputError(field, path, f"cannot be read as NumPy arrays: {reason}", remedy) from error


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    """Raises ValueError unless the archive looks like one by numpy.savez and unpacks to a plausible size."""
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"its member {member.filename!r} points outside the archive")
        if path.suffix != ".npy":
            raise ValueError(f"its member {member.filename!r} is not an array")
    unpacked, packed = (sum(getattr(member, size) for member in members) for size in ("file_size", "compress_size"))
    if unpacked > max(_BOMB_BYTES, _BOMB_RATIO * packed):
        raise ValueError(f"{packed:,} bytes unpack to {unpacked:,}: a zip bomb? If it is not, use numpy.savez")


def _pairs(arrays: Mapping[str, _Array], field: str, origin: str) -> dict[str, tuple[_Array, _Array]]:
    """Returns images and labels by split, for both ways to name them."""
    remedy = "name them x and y, or x_train, y_train and, where they exist, x_val, y_val, x_test, y_test"
    wanted = {"train": ("x", "y")} if "x" in arrays else _PAIRS
    pairs: dict[str, tuple[_Array, _Array]] = {}
    for split, names in wanted.items():
        missing = [name for name in names if name not in arrays]
        if split == "train" or len(missing) == 1:
            if missing:
                raise InputError(field, origin, f"holds {sorted(arrays)} and no {missing[0]}", remedy)
        elif missing:
            continue
        pairs[split] = (arrays[names[0]], arrays[names[1]])
    if "x" in arrays and any(name in arrays for names in _PAIRS.values() for name in names):
        raise InputError(field, origin, f"holds {sorted(arrays)}: both ways of naming", remedy)
    return pairs


def _dataset(pairs: Mapping[str, tuple[_Array, _Array]], in_memory_bytes: int) -> ImageDataset:
    class_values = np.unique(_labels(pairs["train"][1]))
    parts = {
        split: _part(_pixels(images, in_memory_bytes), images.name, labels, class_values)
        for split, (images, labels) in pairs.items()
    }
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        message = f"and the other splits differ in image shape: {sorted(shapes)}"
        raise pairs["train"][0].refused(message, "give all of them one shape")
    names = tuple(str(value) for value in class_values)
    return ImageDataset(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=names,
        has_integer_labels=class_values.dtype.kind in "iu",
    )


def _part(pixels: Images, name: str, labels: _Array, class_values: NDArray[Any]) -> LabelledImages:
    values = _labels(labels)
    if len(pixels) != len(values):
        message = f"has {len(values)} labels, but {name} has {len(pixels)} images"
        raise labels.refused(message, "give one label per image")
    indices = np.searchsorted(class_values, values).clip(max=len(class_values) - 1)
    unknown = class_values[indices] != values
    if unknown.any():
        message = f"has labels that train does not have, such as {values[unknown][0].item()!r}"
        raise labels.refused(message, "give training images of every class")
    return LabelledImages(pixels, indices.astype(np.int64))


def _labels(labels: _Array) -> NDArray[Any]:
    """Returns integer or string labels (N,)."""
    values = labels.values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iubUS":
        raise labels.refused(f"is {labels.shape}", "give integer or string labels of shape (N,)")
    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    except UnicodeDecodeError as error:
        raise labels.refused("is not UTF-8", "save the labels as str") from error


def _pixels(images: _Array, in_memory_bytes: int) -> Images:
    """Returns images (N, H, W, C), uint8 or float32. A .npy larger than `in_memory_bytes` stays on disk."""
    values = images.values
    pixels = channels_last(values)
    if pixels.ndim != 4 or pixels.shape[3] not in CHANNELS or pixels.dtype.kind not in "biuf" or 0 in pixels.shape:
        remedy = "give numbers of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels"
        raise images.refused(f"is {images.shape}", remedy)
    if isinstance(values, np.memmap) and values.nbytes > in_memory_bytes:
        if not values.flags.c_contiguous:
            message = "is too large to be read into memory, and in Fortran order: no image is contiguous"
            raise images.refused(message, "save it with numpy.ascontiguousarray, or raise data.in_memory_mb")
        return ImagesOnDisk(images.path)
    try:
        return as_pixels(pixels)
    except OverflowError as error:
        raise images.refused(str(error), "scale it down before saving") from error


SOURCES = {
    "arrays": Source(
        summary="your .npz (x, y or x_train, y_train, …), or .npy images with .npy labels",
        load=_load,
        takes=frozenset({"path", "labels_path", "in_memory_mb"}),
    )
}
