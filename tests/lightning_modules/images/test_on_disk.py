"""Images on disk: the same as in memory in everything that reads them, and never read whole."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_modules import DataConfig, ImageDataModule, InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.datasets.shared import map_shared, save_shared
from lightning_modules.images.on_disk import ImagesOnDisk
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.normalization import NormalizationKind, fit_normalization
from lightning_modules.pipeline.splits import Subset, as_published

Load = Callable[..., ImageDataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Saves images as a .npy, with labels 0, 1, 2, 0, …, and loads them; from disk unless `in_memory_mb` is given."""

    def save_and_load(images: Any, in_memory_mb: int = 0) -> ImageDataset:
        np.save(tmp_path / "x.npy", images)
        np.save(tmp_path / "y.npy", np.arange(len(images)) % 3)
        return load_dataset(config(tmp_path, in_memory_mb=in_memory_mb))

    return save_and_load


def config(folder: Path, **options: Any) -> DataConfig:
    paths = {"path": str(folder / "x.npy"), "labels_path": str(folder / "y.npy")}
    return DataConfig(source="arrays", **{"in_memory_mb": 0} | paths | options)


def numbered(count: int = 300) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Gray images of 2×5 pixels; all pixels of image i are i."""
    return np.repeat(np.arange(count, dtype=np.uint16), 10).reshape(count, 2, 5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((300, 5, 6), "uint8"),
        ((300, 5, 6, 3), "bool"),
        ((300, 3, 5, 6), "float64"),
        ((300, 4, 5, 6), "uint8"),
        ((300, 5, 6, 1), ">i2"),
    ],
)
def test_they_are_what_they_are_in_memory(shape: tuple[int, ...], dtype: str, load: Load) -> None:
    saved = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    in_memory, on_disk = load(saved, in_memory_mb=1), load(saved)
    expected, images = in_memory.train.images, on_disk.train.images
    assert isinstance(expected, np.ndarray)
    assert isinstance(images, ImagesOnDisk)
    assert (images.shape, images.dtype, len(images)) == (expected.shape, expected.dtype, 300)
    for rows in (7, -1, slice(10, 20), slice(290, 400), np.array([5, 6, 7, 3, 299, 3]), np.array([], np.int64)):
        np.testing.assert_array_equal(images[rows], expected[rows])
        assert images[rows].dtype == expected.dtype
    assert on_disk.sha256 == in_memory.sha256
    np.testing.assert_array_equal(on_disk.train.content.hashes, in_memory.train.content.hashes)


@pytest.mark.parametrize("kind", ["per_pixel", "per_channel", "min_max"])
def test_statistics_are_those_in_memory(kind: NormalizationKind, load: Load) -> None:
    saved = np.random.default_rng(0).integers(0, 256, (9000, 3, 4, 3), np.uint8)  # more than two chunks of train
    train = np.flatnonzero(np.arange(9000) % 5)
    first, second = (
        fit_normalization(kind, Subset(dataset.train.images, dataset.train.labels, train))
        for dataset in (load(saved, in_memory_mb=1), load(saved))
    )
    assert torch.equal(first.scale, second.scale)
    assert torch.equal(first.offset, second.offset)


def test_without_a_shuffle_seed_batches_are_those_in_memory(load: Load) -> None:
    first, second = (batches(load(numbered(), in_memory_mb)) for in_memory_mb in (1, 0))
    for (images, labels), (images_, labels_) in zip(first, second, strict=True):
        assert torch.equal(images, images_)
        assert torch.equal(labels, labels_)


def test_shuffled_batches_show_each_image_once_with_its_label_in_the_order_that_they_tell(load: Load) -> None:
    epochs = [shown(batches(load(numbered()), shuffle_seed=seed)) for seed in (0, 0, 1)]
    assert sorted(epochs[0]) == list(range(300))
    assert epochs[0] == epochs[1] != epochs[2]


def test_epochs_differ(load: Load) -> None:
    loader = batches(load(numbered()), shuffle_seed=0)
    assert shown(loader) != shown(loader)


def batches(dataset: ImageDataset, shuffle_seed: int | None = None) -> Batches:
    subset = as_published(dataset)["train"]
    return Batches(subset, fit_normalization("none", subset), 32, shuffle_seed=shuffle_seed)


def shown(loader: Batches) -> list[int]:
    """The images of one epoch."""
    order: list[int] = []
    for images, labels in loader:
        numbers = images[:, 0, 0, 0].long()
        assert torch.equal(images, numbers[:, None, None, None].expand_as(images).float())
        assert torch.equal(labels, numbers % 3)
        order += numbers.tolist()
    return order


def test_a_file_of_just_the_size_is_read_into_memory(load: Load) -> None:
    assert isinstance(load(np.zeros((10, 100, 1000), np.uint8), in_memory_mb=1).train.images, np.ndarray)
    assert isinstance(load(np.zeros((10, 100, 1001), np.uint8), in_memory_mb=1).train.images, ImagesOnDisk)


def test_passes_over_all_images_hold_few_of_them(tmp_path: Path) -> None:
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (2000, 256, 256))  # 131 MB
    images[::10, 0, 0] = 1
    np.save(tmp_path / "y.npy", np.arange(2000) % 3)
    dataset = load_dataset(config(tmp_path))
    tracemalloc.start()
    digest, content = dataset.sha256, dataset.train.content
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(digest) == 64
    assert content.high.sum() == 200
    assert peak < 20e6


def test_workers_read_the_user_s_own_file(load: Load, tmp_path: Path) -> None:
    dataset = load(numbered())
    (tmp_path / "shared").mkdir()
    save_shared(dataset, tmp_path / "shared")
    assert not (tmp_path / "shared" / "train_images.npy").exists()
    mapped = map_shared(tmp_path / "shared")
    assert isinstance(mapped.train.images, ImagesOnDisk)
    assert mapped.sha256 == dataset.sha256


def test_values_that_float32_cannot_hold_are_refused_as_they_are_read(load: Load) -> None:
    images = numbered().astype(np.float64)
    images[200, 1, 1] = 1e39
    with pytest.raises(InputError, match=r"^data\.path: has a value too large for float32"):
        load(images).train.content  # noqa: B018


def test_fortran_order_is_refused(load: Load) -> None:
    with pytest.raises(InputError, match=r"^data\.path: x is too large .*numpy\.ascontiguousarray"):
        load(np.asfortranarray(numbered()))


def test_a_file_that_was_cut_short_meanwhile_is_refused(load: Load, tmp_path: Path) -> None:
    images = load(numbered()).train.images
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match=r"^data\.path: has become shorter"):
        images[299]


def test_all_of_them_as_one_batch_are_refused(load: Load, tmp_path: Path) -> None:
    load(numbered())
    with pytest.raises(InputError, match=r"^data\.batch_size: .*in_memory_mb"):
        ImageDataModule(config(tmp_path, batch_size="full")).setup()


def test_a_negative_size_and_another_source_are_refused() -> None:
    for source, size in (("arrays", -1), ("digits", 1)):
        with pytest.raises(InputError, match=r"^data\.in_memory_mb: "):
            DataConfig(source=source, in_memory_mb=size)
