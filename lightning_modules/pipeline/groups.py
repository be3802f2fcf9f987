"""Groups: images that must stay in the same split (one patient, one slide, one scene)."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets import LabelledImages
from lightning_modules.datasets.arrays import read_arrays
from lightning_modules.errors import InputError


def find_groups(images: LabelledImages, path: str | None, pattern: str | None) -> NDArray[np.int64] | None:
    """Returns the group number of each image (N,), or None if neither `path` nor `pattern` is given.

    `path` is a .npy of integers or strings (N,), or an .npz that contains them as `groups`. `pattern` is a regular
    expression that is searched in each file name. Its first group, or else the whole match, names the image's group.
    """
    if path is not None:
        values = _read(path, len(images))
    elif pattern is not None:
        values = np.array(_match(pattern, images.names))
    else:
        return None
    numbers: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return numbers


def _read(path: str, count: int) -> NDArray[np.generic]:
    arrays = read_arrays("data.groups", path)
    found = arrays.get("groups", arrays.get("x") if len(arrays) == 1 else None)
    if found is None:
        raise InputError("data.groups", path, f"holds {sorted(arrays)} and no groups", "name the array groups")
    values: NDArray[np.generic] = found.values
    if values.shape != (count,) or values.dtype.kind not in "iubUS":
        remedy = "give one integer or string per training image"
        raise found.refused(f"is {found.shape}, but train has {count} images", remedy)
    return values


def _match(pattern: str, names: Sequence[str] | None) -> list[str]:
    if names is None:
        raise InputError("data.group_pattern", pattern, "the images have no file names", "give data.groups instead")
    matches = [re.search(pattern, name) for name in names]
    unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
    if unmatched:
        message = f"does not match {unmatched[0]} and {len(unmatched) - 1} other file names"
        raise InputError("data.group_pattern", pattern, message, "give one that matches every class/picture")
    return [match[1] or "" if match.re.groups else match[0] for match in matches if match]
