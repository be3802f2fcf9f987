"""scikit-learn's digits as a source."""

import numpy as np

from lightning_modules.datasets import SourceOptions, find_source


def test_digits_are_1797_gray_images_of_8x8_pixels_in_ten_classes() -> None:
    digits = find_source("digits").load(SourceOptions())
    assert digits.train.images.shape == (1797, 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 16)
    assert set(digits.train.labels) == set(range(10))
    assert digits.class_names == tuple("0123456789")
    assert digits.test is None
