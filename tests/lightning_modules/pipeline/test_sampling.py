"""Which training images an epoch shows."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import DataConfig, ImageDataModule
from lightning_modules.datasets import ImageDataset
from lightning_modules.pipeline.sampling import draw_balanced

LABELS = torch.tensor([2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0] * 200)  # 85 %, 10 %, 5 %


def drawn(seed: int) -> Tensor:
    return draw_balanced(LABELS, torch.Generator().manual_seed(seed))


def test_balanced_gives_as_many_draws_and_each_class_and_each_of_its_images_the_same_chance() -> None:
    epochs = torch.stack([drawn(seed) for seed in range(50)])
    assert epochs.shape == (50, 4000)
    np.testing.assert_allclose(LABELS[epochs].flatten().bincount() / epochs.numel(), [1 / 3] * 3, atol=0.005)
    times = epochs.flatten().bincount(minlength=4000).double()
    for label, images in enumerate((3400, 400, 200)):  # Poisson's, as near as makes no difference
        mean = 4000 * 50 / 3 / images
        assert times[label == LABELS].mean() == pytest.approx(mean, rel=0.02)
        assert times[label == LABELS].var() == pytest.approx(mean, rel=0.3)


def test_the_seed_decides() -> None:
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_balanced_epochs_of_a_split_keep_their_length_and_labels_and_tell_their_order(numbered: ImageDataset) -> None:
    config = DataConfig(normalization="none", sampling="balanced", batch_size=10)
    data = ImageDataModule(config, dataset=numbered)
    data.setup()
    batches = data.train_dataloader()
    orders = []
    for _ in range(2):
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        order = images[:, 0, 0, 0].long()
        assert len(order) == len(data.splits["train"]) == 72
        assert set(order.tolist()) <= set(data.splits["train"].indices.tolist())
        assert torch.equal(labels, torch.from_numpy(numbered.train.labels)[order])
        assert 20 <= labels.sum() <= 52  # 36 of class b expected, with a deviation of 4; it has 14 images
        orders.append((order.tolist(), batches.order_sha256))
    assert orders[0][0] != orders[1][0]
    assert orders[0][1] != orders[1][1]
