"""Answers of a run's logged model for the user's pictures and arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.serving.loaded import LoadedModel, load_model
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.datasets.arrays import read_arrays
from lightning_modules.images.layout import ImagesError, channels_last
from lightning_modules.images.pictures import SUFFIXES, PictureError, quiet
from lightning_modules.log import LOG

_ARRAYS = {".npy", ".npz"}
_AT_ONCE = 500  # images

Named = tuple[list[str], NDArray[Any]]  # images and their names


def predict(store: Store, selector: str, inputs: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns `input`, `label`, `label_index` and `probabilities` {label: p} of each image, arrays first.

    Images get the size and the channels that they had in training. Raises InputError if the run has no model, or if a
    file is neither a picture nor an array of images that the model takes.
    """
    model = load_model(store, selector)
    answers: list[dict[str, Any]] = []
    for names, images in _Reader(model).read(inputs):
        answer = model.answer_checked(images)
        rows = zip(names, answer["label"], answer["label_index"], answer["probabilities"], strict=True)
        for name, label, index, row in rows:
            probabilities = dict(zip(answer["class_names"].tolist(), row.tolist(), strict=True))
            answers.append(
                {"input": name, "label": label.item(), "label_index": int(index), "probabilities": probabilities}
            )
    return answers


class _Reader:
    """Reads images in the type that a model takes."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def read(self, inputs: Sequence[Path]) -> Iterator[Named]:
        """Yields some images at a time."""
        pictures: list[Path] = []
        for path in inputs:
            if path.suffix.lower() in _ARRAYS:
                yield from self._arrays(path)
            else:
                pictures += _pictures(path)
        for start in range(0, len(pictures), _AT_ONCE):
            chosen = pictures[start : start + _AT_ONCE]
            with quiet():
                images = np.stack([self._decode(path) for path in chosen])
            yield list(map(str, chosen)), images

    def _decode(self, path: Path) -> NDArray[Any]:
        try:
            return self._model.decode(path)
        except (OSError, PictureError) as error:
            raise InputError("FILE", str(path), str(error), "give a picture or an array of images") from error

    def _arrays(self, path: Path) -> Iterator[Named]:
        arrays = read_arrays("FILE", str(path))
        if "x" not in arrays:
            raise InputError("FILE", str(path), f"holds {sorted(arrays)}, not x", "name the images x")
        images = channels_last(arrays["x"].values)
        if images.ndim != 4 or images.dtype.kind not in "biuf":
            shape = f"is {images.dtype} of shape {images.shape}"
            raise InputError("FILE", str(path), shape, "give numbers of shape (N, H, W) or (N, H, W, C)")
        if images.size == 0:
            raise InputError("FILE", str(path), "holds no pixel", "give images")
        if images.shape[1:3] != self._model.size:
            sizes = "×".join(map(str, images.shape[1:3])), "×".join(map(str, self._model.size))
            LOG.info(f"{path}: images of {sizes[0]} are scaled to {sizes[1]}, the size of the training images")
        for start in range(0, len(images), _AT_ONCE):
            chosen = self._checked(path, np.asarray(images[start : start + _AT_ONCE]))
            yield [f"{path}[{start + row}]" for row in range(len(chosen))], chosen

    def _checked(self, path: Path, images_NHWC: NDArray[Any]) -> NDArray[Any]:
        try:
            return self._model.checked(images_NHWC)
        except ImagesError as error:
            remedy = f"give {self._model.type} images like those of training"
            raise InputError("FILE", str(path), str(error), remedy) from error


def _pictures(path: Path) -> list[Path]:
    """Returns the picture itself, or all pictures in a folder and below."""
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError("FILE", str(path), "holds no picture", "give a folder of pictures")
        return found
    if not path.is_file():
        raise InputError("FILE", str(path), "no such file or folder", "check the path")
    return [path]
