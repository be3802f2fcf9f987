"""Finding a source by name, and a data set's identity."""

from dataclasses import replace

import numpy as np
import pytest

from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset, LabelledImages, all_sources, find_source


def test_every_source_is_found_by_its_name() -> None:
    assert {"arrays", "digits", "fashion_mnist", "image_folder", "kmnist", "mnist"} <= all_sources().keys()
    assert all(find_source(name) == source for name, source in all_sources().items())


def test_an_unknown_source_suggests_the_near_one() -> None:
    with pytest.raises(InputError, match=r"^data\.source: no such data set .*did you mean 'fashion_mnist'\?"):
        find_source("fashion-mnist")


def test_sha256_is_that_of_the_contents(numbered: ImageDataset) -> None:
    part = numbered.train
    assert ImageDataset(LabelledImages(part.images.copy(), part.labels.copy()), ("a", "b")).sha256 == numbered.sha256


def test_sha256_changes_with_any_pixel_label_or_name_and_with_the_split(numbered: ImageDataset) -> None:
    images, labels = numbered.train.images.copy(), numbered.train.labels.copy()
    images[99, 1, 1, 0] ^= 1
    labels[99] ^= 1
    others = [
        replace(numbered, train=LabelledImages(images, numbered.train.labels)),
        replace(numbered, train=LabelledImages(numbered.train.images, labels)),
        replace(numbered, train=LabelledImages(numbered.train.images.reshape(100, 3, 2, 1), numbered.train.labels)),
        replace(numbered, class_names=("a", "c")),
        replace(numbered, test=numbered.train),
        replace(numbered, val=numbered.train),
    ]
    assert len({numbered.sha256, *(other.sha256 for other in others)}) == 7


def test_sha256_does_not_depend_on_memory_layout(numbered: ImageDataset) -> None:
    turned = np.asfortranarray(numbered.train.images)
    assert replace(numbered, train=LabelledImages(turned, numbered.train.labels)).sha256 == numbered.sha256
