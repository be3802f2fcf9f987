"""Statistics of the train split, against scikit-learn and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lightning_modules.pipeline.normalization import NormalizationKind, fit_normalization
from lightning_modules.pipeline.splits import Subset


def subset_of(images_NHWC: Any, indices: Any = None) -> Subset:
    images = np.asarray(images_NHWC)
    chosen = np.arange(len(images)) if indices is None else np.asarray(indices)
    return Subset(images, np.zeros(len(images), np.int64), chosen)


def pixels(*values: int, channels: int = 1) -> np.ndarray[Any, Any]:
    """Images of one pixel."""
    return np.array(values, np.uint8).reshape(-1, 1, 1, channels)


def normalized(kind: NormalizationKind, train: Any, images_NHWC: Any) -> list[Any]:
    """Values after normalization, channels last again, of one-pixel images: a list an image."""
    images_NCHW = torch.from_numpy(np.asarray(images_NHWC)).permute(0, 3, 1, 2)
    result: Tensor = fit_normalization(kind, subset_of(train))(images_NCHW)
    assert result.dtype == torch.float32
    return result.flatten(start_dim=1).tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_per_pixel_is_scikit_learn_s_standard_scaler_on_train(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6000, 3, 2, 2)).astype(dtype)
    train = np.arange(0, 6000, 6) if dtype is np.float32 else np.arange(5000)  # 5000 are more than one chunk
    ours = fit_normalization("per_pixel", subset_of(images, train))(torch.from_numpy(images).permute(0, 3, 1, 2))
    scaler = StandardScaler().fit(images[train].reshape(len(train), -1).astype(np.float64))
    theirs = scaler.transform(images.reshape(6000, -1).astype(np.float64)).reshape(images.shape)
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", ["per_pixel", "per_channel"])
def test_known_images_are_fitted_once_on_a_machine(
    kind: NormalizationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 2, 3)).astype(np.uint8)
    fitted = fit_normalization(kind, subset_of(images))
    for train in (images, np.zeros_like(images)):  # the second is not read: it claims to be the first
        known = fit_normalization(kind, subset_of(train), "these images")
        assert torch.equal(known.scale, fitted.scale)
        assert torch.equal(known.offset, fitted.offset)
    other = fit_normalization(kind, subset_of(images[:9]), "other images")
    assert not torch.equal(other.scale, fitted.scale)


def test_a_pixel_that_is_constant_in_train_becomes_exactly_0() -> None:
    assert normalized("per_pixel", pixels(7, 7, 7), pixels(7)) == [[0.0]]


def test_per_channel_by_hand() -> None:
    # channel 0: mean 4, deviation 4; channel 1: mean 30, deviation 10; over both pixels of both images
    train = np.array([[[[0, 20], [0, 20]]], [[[8, 40], [8, 40]]]], np.uint8)
    assert normalized("per_channel", train, pixels(4, 50, channels=2)) == [pytest.approx([0, 2])]


def test_per_channel_mixes_the_pixels_of_a_channel() -> None:
    train = np.array([[[[1], [3]]], [[[1], [3]]]], np.uint8)  # each pixel is constant, the channel has deviation 1
    assert normalized("per_channel", train, pixels(1, 3)) == [pytest.approx([-1]), pytest.approx([1])]


def test_min_max_takes_train_s_extremes_to_0_and_1() -> None:
    assert normalized("min_max", pixels(2, 6), pixels(2, 3, 6, 10)) == [
        pytest.approx([0]),
        pytest.approx([0.25]),
        pytest.approx([1]),
        pytest.approx([2]),
    ]


def test_min_max_of_constant_images_is_0() -> None:
    assert normalized("min_max", pixels(9, 9), pixels(9)) == [[0.0]]


def test_none_gives_raw_values_as_floats() -> None:
    assert normalized("none", pixels(1, 2), pixels(0, 3, 255)) == [[0.0], [3.0], [255.0]]


def test_the_order_of_channels_is_kept_in_a_picture() -> None:
    train = np.zeros((2, 2, 3, 4), np.float32)
    train[1, 1, 2, 3] = 2  # mean 1, deviation 1 at row 1, column 2, channel 3; constant 0 elsewhere
    expected = torch.zeros(4, 2, 3)
    expected[3, 1, 2] = 1
    result = fit_normalization("per_pixel", subset_of(train))(torch.from_numpy(train).permute(0, 3, 1, 2))
    torch.testing.assert_close(result, torch.stack([-expected, expected]))
