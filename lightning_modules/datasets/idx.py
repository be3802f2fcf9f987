"""Data sets published as gzipped IDX files (LeCun et al. 1998), downloaded once and checked by SHA-256.

The checksums of MNIST and Kuzushiji-MNIST are those that TensorFlow Datasets publishes (tensorflow_datasets/
url_checksums/). The MD5 sums in torchvision.datasets belong to the same files.
"""

import gzip
import math
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_modules.datasets.base import ImageDataset, LabelledImages, Source, SourceOptions
from lightning_modules.errors import InputError
from lightning_modules.images.files import file_sha256
from lightning_modules.log import LOG

_LARGEST_GZIP_RATIO = 1032  # https://zlib.net/zlib_tech.html


@dataclass(frozen=True, kw_only=True)
class _Release:
    """One published data set: its four files by role, their SHA-256, and where to download them."""

    name: str
    sha256: Mapping[str, str]  # file name → SHA-256, in the order train images, train labels, test images, test labels
    summary: str
    mirrors: tuple[str, ...]  # base URLs, tried in turn; those in WORKBENCH_MIRRORS (separated by spaces) come first
    class_names: tuple[str, ...]


# https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul & Vollgraf 2017), MIT licence.
FASHION_MNIST = _Release(
    name="fashion_mnist",
    summary="60,000 + 10,000 gray pictures of clothes, 28×28, ten classes (Zalando Research)",
    sha256={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    mirrors=(
        "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

# MNIST (LeCun, Cortes & Burges 1998), CC BY-SA 3.0. SHA-256 as TensorFlow Datasets publishes them, in
# tensorflow_datasets/url_checksums/mnist.txt.
MNIST = _Release(
    name="mnist",
    summary="60,000 + 10,000 gray handwritten digits, 28×28, ten classes (LeCun, Cortes & Burges)",
    sha256={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    class_names=tuple("0123456789"),
)

# Kuzushiji-MNIST, https://github.com/rois-codh/kmnist (Clanuwat et al. 2018), CC BY-SA 4.0. SHA-256 as TensorFlow
# Datasets publishes them, in tensorflow_datasets/url_checksums/kmnist.txt.
KMNIST = _Release(
    name="kmnist",
    summary="60,000 + 10,000 gray cursive Japanese characters, 28×28, ten classes (ROIS-CODH)",
    sha256={
        "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)


def _load(release: _Release, options: SourceOptions) -> ImageDataset:
    folder = _fetch(release, options)
    train_x, train_y, test_x, test_y = (_read_idx(folder / name) for name in release.sha256)
    return ImageDataset(
        train=LabelledImages(train_x[..., np.newaxis], train_y.astype(np.int64)),
        test=LabelledImages(test_x[..., np.newaxis], test_y.astype(np.int64)),
        class_names=release.class_names,
        has_integer_labels=release is MNIST,
    )


def _fetch(release: _Release, options: SourceOptions) -> Path:
    """Returns the folder that holds every file, intact. Downloads only what is missing or damaged."""
    folder = options.folder() / release.name
    for name, sha256 in release.sha256.items():
        path = folder / name
        if path.is_file() and file_sha256(path) == sha256:
            continue
        _download(release, name, folder)
    return folder


def _download(release: _Release, name: str, folder: Path) -> None:
    """Tries the mirrors in turn. A file gets its final name only if its SHA-256 is right."""
    import pooch
    import requests

    path, arriving = folder / name, folder / f"{name}.{secrets.token_hex(4)}.part"
    tried = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            _set_aside(path, path)
        for mirror in [*os.environ.get("WORKBENCH_MIRRORS", "").split(), *release.mirrors]:
            url = mirror.rstrip("/") + "/" + name
            LOG.info(f"downloading {url}")
            try:
                pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30)(url, str(arriving), None)
            except (requests.RequestException, ValueError) as error:
                tried.append(f"{mirror} ({type(error).__name__})")
                continue
            if file_sha256(arriving) == release.sha256[name]:
                arriving.replace(path)
                return
            _set_aside(arriving, path)
            tried.append(f"{mirror} (wrong SHA-256)")
    except OSError as error:
        message = f"{name} is missing or damaged, and {folder} cannot be written: {error.strerror}"
        raise InputError("data.root", str(folder.parent), message, "choose a folder that can be written") from error
    finally:
        with suppress(OSError):
            arriving.unlink()
    remedy = f"put the file into {folder} by hand, or name a mirror in WORKBENCH_MIRRORS"
    raise InputError("data.source", release.name, f"{name} could not be downloaded from {', '.join(tried)}", remedy)


def _set_aside(damaged: Path, path: Path) -> None:
    aside = path.with_name(path.name + ".damaged")
    damaged.replace(aside)
    LOG.info(f"{path.name} has the wrong SHA-256: moved to {aside}")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes: two zero bytes, type 8, number of dimensions, big-endian sizes, values."""
    try:
        with gzip.open(path) as file:
            zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if zero or kind != 8:
                raise ValueError("not an IDX file of unsigned bytes")
            count = math.prod(shape)
            if count > _LARGEST_GZIP_RATIO * path.stat().st_size:
                raise ValueError(f"declares {count:,} values, more than the file can hold")
            values = np.frombuffer(bytearray(file.read(count + 1)), np.uint8)
            return values.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise InputError("data.root", str(path), f"cannot be read: {error}", "delete it to fetch it again") from error


SOURCES = {
    release.name: Source(summary=release.summary, load=partial(_load, release), fetch=partial(_fetch, release))
    for release in (FASHION_MNIST, MNIST, KMNIST)
}
