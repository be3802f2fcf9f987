"""A class too rare to be predicted at all, until it counts as much as the other.

330 images, dark or bright. Class a: 250 dark and 50 bright; class b: 30 bright. A bright image is of class a with
probability 50/80, so the most accurate answer is always a. Where both classes count the same, bright means b.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from lightning_modules import DataConfig, ImageClassifier, ImageDataModule, ModelConfig, OptimizerConfig
from lightning_modules.datasets import ImageDataset, LabelledImages

ALWAYS_A = (2 * 300 / (300 + 330) + 0) / 2
BRIGHT_IS_B = (2 * 250 / (300 + 250) + 2 * 30 / (30 + 80)) / 2


@pytest.mark.parametrize(
    ("model", "data", "macro_f1", "accuracy"),
    [
        ({}, {}, ALWAYS_A, 300 / 330),
        ({"class_weights": "balanced"}, {}, BRIGHT_IS_B, 280 / 330),
        ({"class_weights": "balanced", "loss": "mse"}, {}, BRIGHT_IS_B, 280 / 330),
        ({}, {"sampling": "balanced"}, BRIGHT_IS_B, 280 / 330),
    ],
    ids=["plain", "weighted cross-entropy", "weighted mse", "balanced sampling"],
)
def test_balance_raises_macro_f1(
    model: dict[str, Any], data: dict[str, Any], macro_f1: float, accuracy: float, make_trainer: Callable[..., Trainer]
) -> None:
    is_bright = np.repeat([0, 1, 1], [250, 50, 30])
    images = np.stack([1 - is_bright, is_bright], axis=1).astype(np.float32).reshape(330, 1, 2, 1)
    part = LabelledImages(images, np.repeat([0, 0, 1], [250, 50, 30]))
    config = DataConfig(normalization="none", batch_size=33, **data)
    module = ImageDataModule(config, dataset=ImageDataset(part, ("a", "b"), val=part, test=part))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
    class_weights = ModelConfig(**model).weigh_classes(part.labels)
    options = {"loss": model.get("loss", "cross_entropy"), "optimizer": OptimizerConfig(lr=0.05)}
    classifier = ImageClassifier(network, class_weights=class_weights, **options)
    trainer = make_trainer(max_epochs=6)
    trainer.fit(classifier, module)
    (metrics,) = trainer.test(classifier, module, verbose=False)
    assert metrics["test/macro_f1"] == pytest.approx(macro_f1)
    assert metrics["test/accuracy"] == pytest.approx(accuracy)
