"""The LightningDataModule from its config to normalized batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from lightning_modules import AugmentationConfig, DataConfig, ImageClassifier, ImageDataModule, InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset, LabelledImages


def ready(config: DataConfig, dataset: ImageDataset | None = None) -> ImageDataModule:
    data = ImageDataModule(config, dataset=dataset)
    data.setup()
    return data


def test_digits_have_their_shape_and_classes_before_any_split() -> None:
    data = ImageDataModule(DataConfig(source="digits"))
    assert data.image_shape == (1, 8, 8)
    assert data.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@pytest.mark.parametrize("kind", ["per_pixel", "per_channel", "min_max"])
def test_pixels_of_val_and_test_never_reach_the_statistics(kind: Any, numbered: ImageDataset) -> None:
    config = DataConfig(normalization=kind)
    before = ready(config, numbered)
    brighter = numbered.train.images.copy()
    for name in ("val", "test"):
        brighter[before.splits[name].indices] = 255
    after = ready(config, replace(numbered, train=LabelledImages(brighter, numbered.train.labels)))
    torch.testing.assert_close(before.state_dict(), after.state_dict(), rtol=0, atol=0)


def test_train_itself_decides_the_statistics(numbered: ImageDataset) -> None:
    data = ready(DataConfig(batch_size="full"), numbered)
    (images, _), *_ = data.train_dataloader()
    spread = images.std(dim=0, correction=0)
    torch.testing.assert_close(images.mean(dim=0), torch.zeros(1, 2, 3), rtol=0, atol=1e-5)
    assert spread[0, 1, 2] == 0  # the pixel that is always 7
    torch.testing.assert_close(spread.flatten()[:5], torch.ones(5))


def test_modules_of_one_data_set_share_what_was_fitted_to_the_same_images(numbered: ImageDataset) -> None:
    first, again = (ready(DataConfig(batch_size=size), numbered) for size in (32, 64))
    assert again.normalization is first.normalization
    for other in (DataConfig(split_seed=1), DataConfig(normalization="min_max")):
        alone, beside = ready(other, replace(numbered)), ready(other, numbered)
        assert beside.normalization is not first.normalization
        torch.testing.assert_close(beside.state_dict(), alone.state_dict(), rtol=0, atol=0)


def test_augmentation_touches_train_alone(numbered: ImageDataset) -> None:
    config = DataConfig(batch_size="full", normalization="none")
    plain = ready(config, numbered)
    every = AugmentationConfig(shift=1, horizontal_flip=True, rotation=20, erasing=0.5, noise=3)
    moved = ready(replace(config, augmentation=every), numbered)
    for loader in ("val_dataloader", "test_dataloader", "predict_dataloader"):
        assert torch.equal(next(iter(getattr(plain, loader)()))[0], next(iter(getattr(moved, loader)()))[0])
    ((plain_images, plain_labels),), ((images, labels),) = plain.train_dataloader(), moved.train_dataloader()
    assert not torch.equal(images, plain_images)
    assert torch.equal(labels, plain_labels)


def test_a_full_batch_is_the_whole_train_split(numbered: ImageDataset) -> None:
    ((images, _),) = ready(DataConfig(batch_size="full"), numbered).train_dataloader()
    assert len(images) == 72  # 100, less 20 for test, less 8 for val


@pytest.mark.parametrize(("loader", "split"), [("val", "val"), ("test", "test"), ("predict", "test")])
def test_evaluation_reads_its_split_in_order(loader: str, split: str, numbered: ImageDataset) -> None:
    data = ready(DataConfig(normalization="none"), numbered)
    ((images, labels),) = getattr(data, f"{loader}_dataloader")()
    indices = data.splits[split].indices
    assert images[:, 0, 0, 0].tolist() == indices.tolist()
    assert labels.tolist() == numbered.train.labels[indices].tolist()


def test_the_seed_moves_the_training_order_and_no_split(numbered: ImageDataset) -> None:
    first, second = (ImageDataModule(DataConfig(normalization="none"), seed=seed, dataset=numbered) for seed in (0, 1))
    for data in (first, second):
        data.setup()
    assert all(first.splits[name].indices.tolist() == second.splits[name].indices.tolist() for name in first.splits)
    assert not torch.equal(next(iter(first.train_dataloader()))[0], next(iter(second.train_dataloader()))[0])


def test_setting_up_again_changes_nothing(numbered: ImageDataset) -> None:
    data = ready(DataConfig(), numbered)
    splits = data.splits
    data.setup("test")
    assert data.splits is splits


def test_the_normalization_travels_in_the_checkpoint(
    numbered: ImageDataset, make_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    data = ImageDataModule(DataConfig(), dataset=numbered)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(6, 2))), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    fresh = ImageDataModule(DataConfig(), dataset=numbered)
    fresh.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["ImageDataModule"])
    images = torch.randint(0, 256, (9, 1, 2, 3), dtype=torch.uint8)
    assert torch.equal(fresh.normalization(images), data.normalization(images))


def test_a_class_without_a_training_image_is_refused(numbered: ImageDataset) -> None:
    data = ImageDataModule(DataConfig(), dataset=replace(numbered, class_names=("a", "b", "c")))
    with pytest.raises(InputError, match=r"^data\.source: no training image of class c"):
        data.setup()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "digit"),
        ("batch_size", 0),
        ("batch_size", -32),
        ("batch_size", "half"),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
        ("val_fraction", np.nan),
        ("test_fraction", -0.1),
        ("split_seed", -1),
        ("split_seed", 2**32),
        ("normalization", "zscore"),
        ("sampling", "random"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^data\.{name}: "):
        DataConfig(**{name: value})


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    config = DataConfig(source="arrays", root="~/data", path="x.npy", labels_path="/y.npy")
    assert (config.root, config.path, config.labels_path) == ("/home/someone/data", f"{tmp_path}/x.npy", "/y.npy")


def test_a_label_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2), np.uint8), y=np.array(["a\ud800", "b"] * 2))
    with pytest.raises(InputError, match=r"^data\.path: the class 'a\\ud800' is not Unicode text"):
        load_dataset(DataConfig(source="arrays", path=str(tmp_path / "a.npz")))


def test_labels_of_more_classes_than_any_network_has_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((30_001, 1, 1), np.uint8), y=np.arange(30_001))
    with pytest.raises(InputError, match=r"^data\.path: has 30,001 classes, more than 30,000: are the labels classes"):
        load_dataset(DataConfig(source="arrays", path=str(tmp_path / "a.npz")))


def test_whatever_goes_wrong_while_data_are_read_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2), np.uint8), y=np.array([0, 1] * 2))

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "unique", fail)
    with pytest.raises(
        InputError, match=r"cannot be read as data of source arrays: it needs more memory than there is"
    ):
        load_dataset(DataConfig(source="arrays", path=str(tmp_path / "a.npz")))
