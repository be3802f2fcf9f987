"""Folders of pictures: what is read, from where, and what is refused in which words."""

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightning_modules import CleaningConfig, DataConfig, ImageDataModule, InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.images import picture_cache

SHADES = {"cat/a.png": 10, "cat/b.png": 20, "dog/a.png": 30}


def put(folder: Path, shades: Mapping[str, int] = SHADES, size: tuple[int, int] = (3, 2)) -> Path:
    """Writes one picture of one shade for each name."""
    for name, shade in shades.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, shade).save(folder / name)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def load(folder: Path, cache: Path, **options: Any) -> ImageDataset:
    return load_dataset(DataConfig(source="image_folder", path=str(folder), root=str(cache), **options))


def test_folders_are_classes_and_pictures_come_in_the_order_of_their_names(tmp_path: Path, cache: Path) -> None:
    dataset = load(put(tmp_path / "pets"), cache)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.names == tuple(SHADES)
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert dataset.train.images.shape == (3, 2, 3, 3)  # N, H, W, C: pictures are 3 wide and 2 high
    assert dataset.train.images[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert (dataset.val, dataset.test, dataset.refused) == (None, None, ())


def test_split_folders_are_the_splits(tmp_path: Path, cache: Path) -> None:
    shades = {"train/cat/a.png": 1, "train/dog/a.png": 2, "test/dog/a.png": 3, "val/cat/x.png": 4, "val/dog/y.png": 5}
    dataset = load(put(tmp_path / "pets", shades), cache, channels=1)
    found = {split: (part.images[:, 0, 0, 0].tolist(), part.labels.tolist()) for split, part in dataset.parts.items()}
    assert found == {"train": ([1, 2], [0, 1]), "val": ([4, 5], [0, 1]), "test": ([3], [1])}


def test_a_folder_named_train_among_others_is_a_class(tmp_path: Path, cache: Path) -> None:
    assert load(put(tmp_path / "x", {"car/a.png": 1, "train/a.png": 2}), cache).class_names == ("car", "train")


def test_pictures_of_all_sizes_get_the_size_that_is_stated(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "pets", {"cat/a.png": 10}, size=(40, 30))
    put(tmp_path / "pets", {"dog/deep/er/a.png": 20}, size=(7, 9))
    assert load(tmp_path / "pets", cache, image_size=5, channels=1).train.images.shape == (2, 5, 5, 1)
    assert load(tmp_path / "pets", cache, image_size=[4, 6]).train.images.shape == (2, 4, 6, 3)
    with pytest.raises(
        InputError, match=r"^data\.image_size: the pictures differ .*cat/a\.png is 30×40, dog/.* is 9×7"
    ):
        load(tmp_path / "pets", cache)


def test_hidden_files_and_other_files_beside_the_classes_are_left_alone(tmp_path: Path, cache: Path) -> None:
    folder = put(tmp_path / "pets")
    for name in ("labels.csv", "cat/.DS_Store", "cat/Thumbs.db", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("text")
    assert load(folder, cache).refused == ()


# The cache.


def test_what_was_decoded_once_is_not_decoded_again(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load(put(tmp_path / "pets"), cache)
    assert "decoding the pictures of" in capsys.readouterr().err
    shutil.move(tmp_path / "pets", tmp_path / "elsewhere")
    again = load(tmp_path / "elsewhere", cache)
    assert capsys.readouterr().err == ""
    assert again.sha256 == first.sha256


def test_other_contents_are_decoded_anew_even_under_an_old_date(tmp_path: Path, cache: Path) -> None:
    folder = put(tmp_path / "pets")
    load(folder, cache)
    before = (folder / "cat/a.png").stat()
    put(folder, {"cat/a.png": 99})
    os.utime(folder / "cat/a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(folder, cache).train.images[0, 0, 0, 0] == 99


def test_a_cache_file_cut_short_is_made_again(tmp_path: Path, cache: Path) -> None:
    first = load(put(tmp_path / "pets"), cache)
    (pixels,) = (cache / "pictures").glob("*.pixels")
    pixels.unlink()
    pixels.write_bytes(b"short")
    assert load(tmp_path / "pets", cache).sha256 == first.sha256


def test_the_cache_holds_two_files_a_data_set_and_no_more(tmp_path: Path, cache: Path) -> None:
    load(put(tmp_path / "pets"), cache)
    assert sorted(path.suffix for path in (cache / "pictures").iterdir()) == [".json", ".pixels"]


def test_two_containers_may_decode_the_same_pictures_at_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their processes may have the same id: here the second one is a part of the first."""
    folder = put(tmp_path / "pets")
    first, decode = iter([True]), picture_cache.decode

    def decode_beside_another(*args: Any) -> Any:
        if next(first, False):
            load(folder, cache)
        return decode(*args)

    monkeypatch.setattr(picture_cache, "decode", decode_beside_another)
    assert load(folder, cache).train.images[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert sorted(path.suffix for path in (cache / "pictures").iterdir()) == [".json", ".pixels"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, cache: Path) -> None:
    (cache / "pictures").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"^data\.root: the pictures cannot be stored in "):
        load(put(tmp_path / "pets"), cache)


# Refused.


def refused(folder: Path, cache: Path) -> dict[str, str]:
    return {file.name: file.reason for file in load(folder, cache).refused}


def test_files_that_cannot_be_used_are_named_and_the_others_read(tmp_path: Path, cache: Path) -> None:
    folder = put(tmp_path / "pets")
    outside = put(tmp_path, {"secret/a.png": 1})
    (folder / "cat/c.txt").write_text("no picture")
    (folder / "cat/d.png").write_bytes((folder / "cat/a.png").read_bytes()[:45])
    (folder / "cat/e.png").symlink_to(outside / "secret/a.png")
    (folder / "cat/f.png").symlink_to(folder / "cat/a.png")  # stays within the folder
    (folder / "cat/g.png").symlink_to("g.png")  # to itself
    (folder / "cat/h").symlink_to(outside / "secret")
    (folder / "stray.png").write_bytes(b"")
    os.mkfifo(folder / "cat/i.png")
    assert refused(folder, cache) == {
        "stray.png": "is not in a class folder",
        "cat/c.txt": "is no picture by its name",
        "cat/d.png": "is damaged: image file is truncated",
        "cat/e.png": "is a symbolic link out of the folder",
        "cat/g.png": "is not a regular file",
        "cat/h": "is a symbolic link out of the folder",
        "cat/i.png": "is not a regular file",
    }
    assert load(folder, cache).train.names == ("cat/a.png", "cat/b.png", "cat/f.png", "dog/a.png")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError(), "it needs more memory than there is"),
    ],
)
def test_a_failure_of_the_machine_ends_the_command_and_is_not_kept(
    failure: Exception, reason: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "pets")
    for place in ("PIL.Image.open", "lightning_modules.images.picture_cache.file_sha256"):
        with monkeypatch.context() as failing:
            failing.setattr(place, Mock(side_effect=failure))
            with pytest.raises(InputError, match=rf"^data\.path: cannot be read as a picture: {reason} \(got .*png"):
                load(folder, cache)
    assert refused(folder, cache) == {}


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(tmp_path / "pets")

    def denying(read: Callable[..., Any]) -> Callable[..., Any]:
        def read_others(path: Path, **options: Any) -> Any:
            if path == folder / "cat/b.png":
                raise PermissionError(errno.EACCES, "Permission denied")
            return read(path, **options)

        return read_others

    monkeypatch.setattr("PIL.Image.open", denying(Image.open))
    monkeypatch.setattr(picture_cache, "file_sha256", denying(picture_cache.file_sha256))
    assert refused(folder, cache) == {"cat/b.png": "is damaged: [Errno 13] Permission denied"}


def test_a_class_or_split_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, cache: Path) -> None:
    outside = put(tmp_path / "secret", {"cat/a.png": 1})
    folder = put(tmp_path / "pets", {"train/cat/a.png": 1})
    (folder / "train/dog").symlink_to(outside / "cat")
    assert refused(folder, cache) == {"train/dog": "is a symbolic link out of the folder"}
    (folder / "test").symlink_to(outside)
    with pytest.raises(InputError, match=r"^data\.path: is a symbolic link out of the folder .*/pets/test"):
        load(folder, cache)


def test_training_stops_at_a_file_that_cannot_be_used(tmp_path: Path, cache: Path) -> None:
    folder = put(tmp_path / "pets", {f"{pet}/{number}.png": number for pet in ("cat", "dog") for number in range(9)})
    (folder / "cat/3.png").write_bytes(b"")
    config = DataConfig(source="image_folder", path=str(folder), root=str(cache), val_fraction=0.2)
    with pytest.raises(InputError, match=r"^data\.cleaning\.unreadable: 1 in train: .*: cat/3\.png is not a PNG"):
        ImageDataModule(config).setup()
    dropping = ImageDataModule(replace(config, cleaning=CleaningConfig(unreadable="drop")))
    dropping.setup()
    assert sum(map(len, dropping.splits.values())) == 17
    assert dropping.report.findings[0].dropped == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "data.path: has no usable picture: no picture in any class folder"),
        (["train/cat/a.png", "test/dog/a.png"], "data.path: test/dog is a class that train does not have"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(names: list[str], message: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "pets").mkdir()
    with pytest.raises(InputError, match=f"^{message}"):
        load(put(tmp_path / "pets", dict.fromkeys(names, 1)), cache)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": [5]}, "image_size"),
        ({"image_size": [5, -1]}, "image_size"),
        ({"labels_path": "y.npy"}, "labels_path"),
        ({"path": "/nowhere"}, "path"),
        ({"path": None}, "path"),
    ],
)
def test_impossible_options_are_refused_by_their_names(
    options: dict[str, Any], field: str, tmp_path: Path, cache: Path
) -> None:
    folder = put(tmp_path / "pets")
    with pytest.raises(InputError, match=rf"^data\.{field}: "):
        load_dataset(DataConfig(**{"source": "image_folder", "path": str(folder), "root": str(cache)} | options))


@settings(deadline=None, max_examples=15)
@given(
    pictures=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "é c"]),  # class
            st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
            st.sampled_from(["png", "tiff"]),
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
        ),
        min_size=1,
        max_size=6,
    ),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([1, 3]),
)
def test_any_mix_of_modes_formats_and_sizes_is_one_array(
    pictures: list[tuple[str, str, str, tuple[int, int]]],
    size: tuple[int, int],
    channels: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, cache = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("root")
    for number, (class_name, mode, suffix, own_size) in enumerate(pictures):
        (folder / class_name).mkdir(exist_ok=True)
        Image.new(mode, own_size).save(folder / class_name / f"{number}.{suffix}")
    dataset = load(folder, cache, image_size=list(size), channels=channels)
    assert dataset.train.images.shape == (len(pictures), *size, channels)
    assert dataset.train.images.dtype == np.uint8
    assert not dataset.train.images.any()
    assert dataset.class_names == tuple(sorted({class_name for class_name, *_ in pictures}))
    assert dataset.train.names is not None
    folders = [name.split("/")[0] for name in dataset.train.names]
    assert [dataset.class_names[label] for label in dataset.train.labels] == folders


def test_a_class_whose_name_is_not_unicode_is_refused(tmp_path: Path, cache: Path) -> None:
    folder = put(tmp_path / "pets")
    put(folder, {os.fsdecode(b"caf\xe9/a.png"): 1})
    with pytest.raises(InputError, match=r"^data\.path: the class 'caf\\udce9' is not Unicode text"):
        load(folder, cache)


def test_names_of_files_may_be_anything(tmp_path: Path, cache: Path) -> None:
    names = ["cat/new\nline\x1b.png", os.fsdecode(b"cat/caf\xe9.png"), "dog/\u202e.png"]
    dataset = load(put(tmp_path / "pets", dict.fromkeys(names, 1)), cache)
    assert set(dataset.train.names or ()) == set(names)
