"""scikit-learn's embedded digits: 1,797 gray images of 8×8 pixels, values 0 to 16, ten classes (UCI, Alpaydin 1998)."""

import numpy as np

from lightning_modules.datasets.base import ImageDataset, LabelledImages, Source, SourceOptions


def _load(_: SourceOptions) -> ImageDataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    train = LabelledImages(images, digits.target.astype(np.int64))
    return ImageDataset(train, tuple("0123456789"), has_integer_labels=True)


SOURCES = {"digits": Source(summary="1,797 gray digits of 8×8 pixels, embedded in scikit-learn", load=_load)}
