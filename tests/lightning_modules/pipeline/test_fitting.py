"""The channels and the size that a network gets."""

import pytest
import torch

from lightning_modules import DataConfig, ImageDataModule, InputError
from lightning_modules.pipeline.fitting import Fitting


def test_a_gray_channel_is_repeated() -> None:
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    fitted = Fitting(channels=3)(images)
    assert fitted.shape == (2, 3, 2, 2)
    assert all(torch.equal(fitted[:, channel], images[:, 0]) for channel in range(3))


def test_halving_a_size_averages_over_what_a_new_pixel_covers() -> None:
    images = torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 4).reshape(1, 1, 4, 4)
    fitted = Fitting(height_width=(4, 2))(images)
    # Two columns of 0 and two of 8; the triangle of antialiasing reaches one column beyond the middle.
    assert fitted[0, 0, 0].tolist() == pytest.approx([8 / 7, 48 / 7], abs=1e-4)


def test_the_data_give_batches_of_the_shape_that_the_network_is_built_for() -> None:
    data = ImageDataModule(DataConfig(source="digits", channels=3, image_size=[16, 12]))
    data.setup()
    assert data.image_shape == (3, 16, 12)
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (32, 3, 16, 12)


def test_colour_images_are_not_made_gray(tmp_path: object) -> None:
    import numpy as np

    path = f"{tmp_path}/colour.npz"
    np.savez(path, x=np.zeros((20, 8, 8, 3), np.uint8), y=np.arange(20) % 2)
    data = ImageDataModule(DataConfig(source="arrays", path=path, channels=1))
    data.setup()
    with pytest.raises(InputError, match=r"^data\.channels: the images have 3 channels"):
        data.train_dataloader()
