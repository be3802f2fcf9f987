"""The user's own NumPy files: what is read, and what is refused in which words."""

import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset, SourceOptions, find_source

LoadArrays = Callable[..., ImageDataset]

X = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
Y = np.array([0, 1])


def load(path: Path, labels_path: Path | None = None) -> ImageDataset:
    options = SourceOptions(path=str(path), labels_path=None if labels_path is None else str(labels_path))
    return find_source("arrays").load(options)


@pytest.fixture(scope="session")
def load_npz(tmp_path_factory: pytest.TempPathFactory) -> LoadArrays:
    """Saves the named arrays as one .npz and loads it as a source."""
    path = tmp_path_factory.mktemp("arrays") / "data.npz"

    def save_and_load(**arrays: Any) -> ImageDataset:
        np.savez(path, **arrays)
        return load(path)

    return save_and_load


def test_an_npz_of_x_and_y_is_all_train(load_npz: LoadArrays) -> None:
    dataset = load_npz(x=X, y=Y)
    np.testing.assert_array_equal(dataset.train.images, X[..., np.newaxis])
    assert dataset.train.labels.tolist() == [0, 1]
    assert (dataset.val, dataset.test) == (None, None)


def test_an_npz_with_splits_keeps_them(load_npz: LoadArrays) -> None:
    dataset = load_npz(x_train=X, y_train=Y, x_val=X + 1, y_val=Y[::-1], x_test=X + 2, y_test=Y)
    assert dataset.val is not None
    assert dataset.test is not None
    assert [int(part.images[0, 0, 0, 0]) for part in (dataset.train, dataset.val, dataset.test)] == [0, 1, 2]
    assert dataset.val.labels.tolist() == [1, 0]


def test_a_compressed_npz_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=X, y=Y)
    assert len(load(tmp_path / "data.npz").train) == 2


def test_a_npy_of_images_goes_with_a_npy_of_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    dataset = load(tmp_path / "x.npy", tmp_path / "y.npy")
    np.testing.assert_array_equal(dataset.train.images, X[..., np.newaxis])
    assert dataset.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given_shape", "read_shape"),
    [
        ((2, 4, 5), (2, 4, 5, 1)),
        ((2, 4, 5, 1), (2, 4, 5, 1)),
        ((2, 32, 32, 3), (2, 32, 32, 3)),
        ((2, 3, 32, 32), (2, 32, 32, 3)),
        ((2, 1, 28, 28), (2, 28, 28, 1)),
        ((2, 4, 8, 9), (2, 8, 9, 4)),
    ],
)
def test_channels_come_last_wherever_they_were(
    given_shape: tuple[int, ...], read_shape: tuple[int, ...], load_npz: LoadArrays
) -> None:
    assert load_npz(x=np.zeros(given_shape, np.uint8), y=Y).train.images.shape == read_shape


def test_moving_channels_last_keeps_every_pixel_in_its_place(load_npz: LoadArrays) -> None:
    images = np.zeros((2, 3, 8, 9), np.uint8)
    images[1, 2, 6, 7] = 5
    assert load_npz(x=images, y=Y).train.images[1, 6, 7, 2] == 5


@pytest.mark.parametrize(
    ("dtype", "read"),
    [("uint8", "uint8"), ("bool", "uint8"), ("uint16", "float32"), ("int64", "float32"), ("float64", "float32")],
)
def test_images_stay_bytes_or_become_float32(dtype: str, read: str, load_npz: LoadArrays) -> None:
    images = load_npz(x=(X > 3).astype(dtype), y=Y).train.images
    assert images.dtype == read
    np.testing.assert_array_equal(images[..., 0], X > 3)


@pytest.mark.parametrize(
    ("labels", "indices", "names"),
    [
        (np.array([7, 3]), [1, 0], ("3", "7")),
        (np.array([-1, 1], np.int8), [0, 1], ("-1", "1")),
        (np.array([True, False]), [1, 0], ("False", "True")),
        (np.array(["dog", "cat"]), [1, 0], ("cat", "dog")),
        (np.array([b"dog", b"cat"]), [1, 0], ("cat", "dog")),
        (np.array([[7], [3]]), [1, 0], ("3", "7")),
    ],
)
def test_label_values_are_the_classes_in_sorted_order(
    labels: NDArray[Any], indices: list[int], names: tuple[str, ...], load_npz: LoadArrays
) -> None:
    dataset = load_npz(x=X, y=labels)
    assert dataset.train.labels.dtype == np.int64
    assert (dataset.train.labels.tolist(), dataset.class_names) == (indices, names)


@settings(deadline=None, max_examples=50)
@given(
    images=hnp.arrays(
        st.sampled_from(["bool", "uint8", "int16", "float32"]),
        st.tuples(st.integers(1, 6), st.integers(5, 9), st.integers(5, 9), st.sampled_from([1, 3, 4])),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    data=st.data(),
)
def test_any_pixels_and_labels_are_read_as_they_are(
    images: NDArray[Any], data: st.DataObject, load_npz: LoadArrays
) -> None:
    values = st.one_of(st.just(st.integers(-(2**40), 2**40)), st.just(st.text("abcé ", min_size=1)))
    labels = data.draw(st.lists(data.draw(values), min_size=len(images), max_size=len(images)))
    dataset = load_npz(x=images, y=np.array(labels))
    np.testing.assert_array_equal(dataset.train.images, images.astype(np.float32))
    assert [dataset.class_names[k] for k in dataset.train.labels] == [str(label) for label in labels]


@settings(deadline=None, max_examples=50)
@given(
    layout=st.sampled_from(["NHW", "NHWC", "NCHW"]),
    sides=st.tuples(st.integers(1, 6), st.integers(5, 9), st.integers(5, 9), st.sampled_from([1, 3, 4])),
    dtype=st.sampled_from(["bool", "uint8", "uint16", "int64", "float16", "float64"]),
    in_one_file=st.booleans(),
)
def test_every_layout_and_type_gives_the_same_images(
    layout: str,
    sides: tuple[int, int, int, int],
    dtype: str,
    in_one_file: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    count, height, width, channels = sides
    channels = 1 if layout == "NHW" else channels
    images = np.arange(count * height * width * channels).reshape(count, height, width, channels) % 2
    given_as = {"NHW": images[..., 0], "NHWC": images, "NCHW": images.transpose(0, 3, 1, 2)}[layout].astype(dtype)
    folder = tmp_path_factory.mktemp("layout")
    if in_one_file:
        np.savez(folder / "x.npz", x=given_as, y=np.zeros(count, int))
        dataset = load(folder / "x.npz")
    else:
        np.save(folder / "x.npy", given_as)
        np.save(folder / "y.npy", np.zeros(count, int))
        dataset = load(folder / "x.npy", folder / "y.npy")
    np.testing.assert_array_equal(dataset.train.images, images)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_object_arrays_are_refused_without_unpickling_them(tmp_path: Path, load_npz: LoadArrays) -> None:
    bombs = np.array([Bomb(tmp_path / "exploded"), None])
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays: it holds Python objects"):
        load_npz(x=X, y=bombs)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["data.npz", "data.npy", "data.pkl"])
def test_a_bare_pickle_is_refused_without_unpickling_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays"):
        load(tmp_path / name, tmp_path / name)
    assert not (tmp_path / "exploded").exists()


FLOATS = X.astype(np.float64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": Y[:1]}, "y has 1 labels, but x has 2 images"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y[:1]}, "y_test has 1 labels, but x_test has 2 images"),
        ({"x": np.where(X == 3, 1e39, FLOATS), "y": Y}, "x has a value too large for float32"),
        ({"images": X, "labels": Y}, "holds ['images', 'labels'] and no x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "holds ['x_test', 'x_train', 'y_train'] and no y_test"),
        ({"x_train": X, "y_train": Y, "x_val": X, "y_val": [0, 2]}, "y_val has labels that train does not have"),
        ({"x_train": X, "y_train": Y, "x_val": X, "y_val": ["0", "1"]}, "y_val has labels that train does not have"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y},
            "x_train and the other splits differ",
        ),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, ""),  # which of the two namings?
        ({"x_train": X, "y_train": Y, "y_test": Y}, "holds ['x_train', 'y_test', 'y_train'] and no x_test"),
        ({"x": X[:, 0], "y": Y}, "x is uint8 of shape (2, 5)"),
        ({"x": np.zeros((2, 7, 8, 2)), "y": Y}, "x is float64 of shape (2, 7, 8, 2)"),
        ({"x": X[:0], "y": Y[:0]}, "x is uint8 of shape (0, 4, 5)"),
        ({"x": X.astype(np.complex128), "y": Y}, "x is complex128"),
        ({"x": X, "y": [0.0, 1.0]}, "y is float64 of shape (2,)"),
        ({"x": X, "y": np.eye(2, dtype=int)}, "y is int64 of shape (2, 2)"),
        ({"x": X, "y": ["é".encode("latin-1"), b"e"]}, "y "),  # no UTF-8
    ],
)
def test_unusable_arrays_are_refused_in_one_line(arrays: dict[str, Any], message: str, load_npz: LoadArrays) -> None:
    with pytest.raises(InputError, match=rf"^data\.path: {re.escape(message)}.*$"):
        load_npz(**arrays)


def test_images_in_a_npy_need_their_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"^data\.labels_path: the images need labels"):
        load(tmp_path / "x.npy")


def test_without_a_path_the_remedy_names_the_option() -> None:
    with pytest.raises(InputError, match=r"^data\.path: .*--data\.path FILE"):
        find_source("arrays").load(SourceOptions())


def test_a_missing_file_is_named_by_its_field(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"^data\.path: no such file"):
        load(tmp_path / "nothing.npz")
    with pytest.raises(InputError, match=r"^data\.labels_path: no such file"):
        load(tmp_path / "x.npy", tmp_path / "nothing.npy")


def test_unusable_labels_in_a_npy_are_named_by_their_field(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.array([0.5, 1.5]))
    with pytest.raises(InputError, match=r"^data\.labels_path: .*float64"):
        load(tmp_path / "x.npy", tmp_path / "y.npy")


def test_an_npz_where_a_npy_of_labels_belongs_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "y.npz", y=Y)
    with pytest.raises(InputError, match=r"^data\.labels_path: "):
        load(tmp_path / "x.npy", tmp_path / "y.npz")


def cut_short(contents: bytearray) -> bytearray:
    return contents[: len(contents) // 2]


def overwritten(contents: bytearray) -> bytearray:
    return contents[:200] + bytes(50) + contents[250:]


@pytest.mark.parametrize("damage", [cut_short, overwritten, lambda contents: contents[:0]])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused(save: Any, damage: Callable[[bytearray], bytearray], tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    save(path, x=np.random.default_rng(0).integers(0, 9, (40, 28, 28)), y=np.arange(40) % 4)
    path.write_bytes(damage(bytearray(path.read_bytes())))
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays"):
        load(path)


def test_a_damaged_npy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    path.write_bytes(cut_short(bytearray(path.read_bytes())))
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays"):
        load(path, path)


def write_npz(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return path


def npy(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npy_that_declares(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(100)


@pytest.mark.parametrize("name", ["../y.npy", "/y.npy", "a/../../y.npy", "..\\y.npy", "notes.txt"])
def test_an_archive_with_a_member_that_does_not_belong_is_refused(name: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "data.npz", {"x.npy": npy(X), "y.npy": npy(Y), name: npy(Y)})
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays: its member .*$"):
        load(path)


def test_a_zip_bomb_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    zeros = bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(npy_that_declares((300, 2**10, 2**10))[:-100])
        for _ in range(300):
            member.write(zeros)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(InputError, match=r"unpack to 314,572,928: a zip bomb\?"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(10**9, 28, 28), (2**62, 4, 4), (10**15, 28, 28), (-1, 28, 28)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_header_that_declares_more_than_there_is_is_refused(
    shape: tuple[int, ...], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"data.{suffix}"
    if suffix == "npy":
        path.write_bytes(npy_that_declares(shape))
    else:
        write_npz(path, {"x.npy": npy_that_declares(shape), "y.npy": npy(Y)})
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays"):
        load(path, path if suffix == "npy" else None)


@pytest.mark.parametrize("header", ["(" * 3_000, "[" * 20, "-" * 9_000 + "1", "{'descr': " * 50, "9" * 5_000, "\\"])
def test_a_header_that_is_no_header_is_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n")
    with pytest.raises(InputError, match=r"^data\.path: cannot be read as NumPy arrays"):
        load(path, path)
