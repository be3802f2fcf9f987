"""Losses of the user's own: one mean, or one loss per image that class weights multiply."""

import math

import pytest
import torch

from lightning_modules import InputError, ModelConfig
from lightning_modules.losses import build_loss, check_loss, mean_loss

# Logits (0, ln 3) mean probabilities 1/4 and 3/4: a cross-entropy of ln 4 for label 0 and of ln(4/3) for label 1.
LOGITS, LABELS = torch.tensor([[0.0, math.log(3)]] * 2), torch.tensor([0, 1])
WRONG, SURE = math.log(4), math.log(4 / 3)


def test_a_class_and_a_function_at_a_dotted_path() -> None:
    made = build_loss("torch.nn.CrossEntropyLoss", {"label_smoothing": 0.5}, 2)
    assert mean_loss(made, LOGITS, LABELS).item() == pytest.approx((WRONG + SURE) / 2)  # smoothed alike both ways
    bound = build_loss("torch.nn.functional.cross_entropy", {"reduction": "sum"}, 2)
    assert mean_loss(bound, LOGITS, LABELS).item() == pytest.approx(WRONG + SURE)


def test_class_weights_multiply_one_loss_per_image() -> None:
    each = build_loss("torch.nn.CrossEntropyLoss", {"reduction": "none"}, 2)
    weights = torch.tensor([2.0, 0.5])
    assert mean_loss(each, LOGITS, LABELS, weights).item() == pytest.approx((2 * WRONG + 0.5 * SURE) / 2)
    one = build_loss("torch.nn.CrossEntropyLoss", {}, 2)
    with pytest.raises(InputError, match=r"^model\.class_weights: the loss gives one loss for all images"):
        mean_loss(one, LOGITS, LABELS, weights)


@pytest.mark.parametrize(
    ("loss", "args", "message"),
    [
        ("hinge", {}, r"model\.loss: no such loss .*choose from cross_entropy, mse, or give a dotted path"),
        ("mse", {"reduction": "sum"}, r"model\.loss_args: mse takes no arguments"),
        ("torch.nn.L1Los", {}, r"model\.loss: torch\.nn has no 'L1Los' .*did you mean 'L1Loss'"),
        ("torch.nn.L1Loss", {"reductoin": "sum"}, r"model\.loss_args\.reductoin: .*did you mean 'reduction'"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(loss: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        check_loss(loss, args)
    with pytest.raises(InputError, match=f"^{message}"):
        ModelConfig(loss=loss, loss_args=args)
