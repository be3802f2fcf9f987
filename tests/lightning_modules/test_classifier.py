"""Losses, metrics and steps on logits that are known: here the images are the logits.

Logits (0, ln 3) mean probabilities 1/4 and 3/4. Cross-entropy is ln(4/3) for label 1 and ln 4 for label 0; the mean
squared error is 1/16 for label 1 and 9/16 for label 0.
"""

import math
from collections import UserList
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from lightning_modules import (
    AugmentationConfig,
    DataConfig,
    ImageClassifier,
    ImageDataModule,
    InputError,
    ModelConfig,
    OptimizerConfig,
)
from lightning_modules.classifier import Batch
from lightning_modules.datasets import ImageDataset, LabelledImages
from lightning_modules.metrics import METRICS

MakeTrainer = Callable[..., Trainer]

SURE = math.log(4 / 3)
WRONG = math.log(4)
STILL = OptimizerConfig(kind="sgd", lr=1e-30)


def batch(*labels: int) -> Batch:
    return torch.tensor([0, math.log(3)]).expand(len(labels), 1, 1, 2), torch.tensor(labels)


def identity() -> nn.Module:
    """Logits = pixels, with weights to train."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    nn.init.eye_(network[1].weight)
    return network


@pytest.mark.parametrize(
    ("loss", "labels", "value"),
    [
        ("cross_entropy", (1,), SURE),
        ("cross_entropy", (0,), WRONG),
        ("cross_entropy", (0, 1, 1), (WRONG + 2 * SURE) / 3),
        ("mse", (1,), 1 / 16),
        ("mse", (0,), 9 / 16),
        ("mse", (0, 1, 1), (9 / 16 + 2 / 16) / 3),
    ],
)
def test_the_loss_of_a_batch_is_the_mean_over_its_images(loss: Any, labels: tuple[int, ...], value: float) -> None:
    assert ImageClassifier(identity(), loss=loss).training_step(batch(*labels), 0).item() == pytest.approx(value)


@pytest.mark.parametrize(
    ("loss", "sure", "wrong"), [("cross_entropy", SURE, WRONG), ("mse", 1 / 16, 9 / 16)], ids=["cross_entropy", "mse"]
)
def test_class_weights_multiply_each_training_image_s_loss_and_no_other(
    loss: Any, sure: float, wrong: float, make_trainer: MakeTrainer
) -> None:
    classifier = ImageClassifier(identity(), loss=loss, class_weights=torch.tensor([2.0, 0.5]))
    expected = (2 * wrong + 0.5 * sure + 0.5 * sure) / 3
    assert classifier.training_step(batch(0, 1, 1), 0).item() == pytest.approx(expected)
    assert set(classifier.state_dict()) == {"network.1.weight"}
    (metrics,) = make_trainer().validate(classifier, UserList([batch(0, 1, 1)]), verbose=False)
    assert metrics["val/loss"] == pytest.approx((wrong + 2 * sure) / 3)


def test_balanced_weights_are_inverse_to_frequency_and_1_on_average() -> None:
    weights = ModelConfig(class_weights="balanced").weigh_classes(np.array([0, 0, 0, 2, 1, 0, 0, 1]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([8 / (3 * 5), 8 / (3 * 2), 8 / (3 * 1)])
    assert ModelConfig().weigh_classes(np.array([0, 1])) is None


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.loss: "):
        ModelConfig(loss="hinge")  # type: ignore[arg-type]


def test_unknown_class_weights_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.class_weights: "):
        ModelConfig(class_weights="inverse")  # type: ignore[arg-type]


# Lightning takes a list for several loaders, and a UserList for one.
SHORT = UserList([batch(1)])
# 5 images in 3 batches, the last of 1: a mean of batch means would give 2/3 instead of 4/5.
BATCHES = UserList([batch(1, 1), batch(1, 1), batch(0)])
EPOCH = {"loss": pytest.approx((4 * SURE + WRONG) / 5), "accuracy": pytest.approx(4 / 5)}
# Label 1 is always said, with confidence 3/4: its F1 is 2·4 / (4 + 5), that of label 0 is 0; 4 of 5 are right.
OF_ALL_ANSWERS = {
    "macro_f1": pytest.approx(4 / 9),
    "top3_accuracy": 1.0,
    "calibration_error": pytest.approx(4 / 5 - 3 / 4, rel=1e-5),  # probabilities are float32
}


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_weighs_a_short_last_batch_by_its_images(split: str, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    evaluate = {"val": trainer.validate, "test": trainer.test}[split]
    (metrics,) = evaluate(ImageClassifier(identity()), BATCHES, verbose=False)
    expected = {f"{split}/{name}": value for name, value in (EPOCH | OF_ALL_ANSWERS).items()}
    assert {name: metrics[name] for name in expected} == expected
    assert metrics.keys() == {f"{split}/{name}" for name in METRICS}


def test_scores_of_many_batches_are_means_over_all_their_images(make_trainer: MakeTrainer) -> None:
    batches = UserList([batch(1)] * 600 + [batch(0, 0)])  # more than are kept before they are summed
    (metrics,) = make_trainer().validate(ImageClassifier(identity()), batches, verbose=False)
    expected = {"val/loss": (600 * SURE + 2 * WRONG) / 602, "val/accuracy": 600 / 602, "val/macro_f1": 600 / 1202}
    assert {name: metrics[name] for name in expected} == {name: pytest.approx(expected[name]) for name in expected}


def test_training_weighs_a_short_last_batch_by_its_images(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=2)
    trainer.fit(ImageClassifier(identity(), optimizer=STILL), BATCHES, SHORT)
    assert {name: trainer.callback_metrics[f"train/{name}"].item() for name in EPOCH} == EPOCH


def test_lightning_s_sanity_check_leaves_no_mark_on_the_first_epoch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1, num_sanity_val_steps=1)
    trainer.fit(ImageClassifier(identity(), optimizer=STILL), SHORT, BATCHES)
    assert trainer.callback_metrics["val/accuracy"].item() == EPOCH["accuracy"]


def test_an_epoch_broken_off_leaves_no_mark_on_the_next(make_trainer: MakeTrainer) -> None:
    classifier = ImageClassifier(identity())
    classifier.validation_step(batch(0, 0, 0), 0)
    (metrics,) = make_trainer().validate(classifier, BATCHES, verbose=False)
    assert metrics["val/accuracy"] == EPOCH["accuracy"]


def test_prediction_gives_probabilities(make_trainer: MakeTrainer) -> None:
    predicted = make_trainer().predict(ImageClassifier(identity()), BATCHES)
    torch.testing.assert_close(torch.cat(predicted), torch.tensor([[1 / 4, 3 / 4]]).expand(5, 2))


def test_without_an_optimizer_it_trains_with_adam_at_a_thousandth(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(ImageClassifier(identity()), SHORT, SHORT)
    (optimizer,) = trainer.optimizers
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 0.001


def test_full_batch_training_takes_one_gradient_descent_step_an_epoch(make_trainer: MakeTrainer) -> None:
    pixels = np.array([[1, 0], [0, 2], [3, 1], [2, 2], [1, 3]] * 4, np.float32)
    labels = np.array([0, 1, 0, 1, 1] * 4)
    part = LabelledImages(pixels[:, np.newaxis, :, np.newaxis], labels)
    config = DataConfig(batch_size="full", normalization="none")
    data = ImageDataModule(config, dataset=ImageDataset(part, ("a", "b"), val=part, test=part))
    network = identity()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(ImageClassifier(network, optimizer=OptimizerConfig(kind="sgd", lr=0.5)), data)

    weight = np.eye(2)
    for _ in range(2):  # the gradient of the mean cross-entropy by hand: (softmax - one-hot)ᵀ · pixels / N
        powers = np.exp(pixels @ weight.T)
        weight -= 0.5 * (powers / powers.sum(axis=1, keepdims=True) - np.eye(2)[labels]).T @ pixels / 20
    assert trainer.global_step == 2
    np.testing.assert_allclose(network[1].weight.detach().numpy(), weight, rtol=1e-5)


def digits_classifier(seed: int) -> tuple[ImageClassifier, ImageDataModule]:
    torch.manual_seed(seed)
    every = AugmentationConfig(shift=1, horizontal_flip=True, rotation=10, erasing=0.5, noise=1)
    data = ImageDataModule(DataConfig(augmentation=every, sampling="balanced"))
    return ImageClassifier(ModelConfig().build(data.image_shape, data.num_classes)), data


def test_a_checkpoint_opens_without_unpickling_and_holds_the_weights(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    classifier, data = digits_classifier(seed=0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(classifier, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(kept, dict(classifier.state_dict()), rtol=0, atol=0)


def test_a_resumed_fit_ends_where_an_unbroken_one_does(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    unbroken, data = digits_classifier(seed=0)
    make_trainer(max_epochs=2).fit(unbroken, data)

    first_half, data = digits_classifier(seed=0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(first_half, data)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, data = digits_classifier(seed=1)
    make_trainer(max_epochs=2).fit(resumed, data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    torch.testing.assert_close(dict(resumed.state_dict()), dict(unbroken.state_dict()), rtol=0, atol=0)
