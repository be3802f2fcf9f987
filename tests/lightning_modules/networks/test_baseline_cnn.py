"""The seed's network, parameter for parameter."""

import math

import pytest
import torch
from torch import nn

from lightning_modules import BaselineCNN, InputError
from lightning_modules.networks import build_network


def test_28x28_gray_images_of_ten_classes_take_693_962_parameters() -> None:
    sizes = {name: parameter.numel() for name, parameter in BaselineCNN((1, 28, 28), 10).named_parameters()}
    assert sizes == {
        "conv.weight": 32 * 3 * 3,
        "conv.bias": 32,
        "hidden.weight": 32 * 13 * 13 * 128,
        "hidden.bias": 128,
        "output.weight": 128 * 10,
        "output.bias": 10,
    }
    assert sum(sizes.values()) == 693_962


def test_it_is_the_textbook_network_in_outputs_and_gradients() -> None:
    network = BaselineCNN((1, 28, 28), 10).double().to(memory_format=torch.channels_last)
    textbook = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 13 * 13, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    ).double()

    def channels_first(weights: torch.Tensor) -> torch.Tensor:
        """The hidden layer's weights in the order of torch's Flatten; ours is Keras's."""
        return weights.view(128, 13, 13, 32).permute(0, 3, 1, 2).reshape(128, -1)

    weights = dict(zip(textbook.state_dict(), network.state_dict().values(), strict=True))
    weights["4.weight"] = channels_first(weights["4.weight"])
    textbook.load_state_dict(weights)
    images, labels = torch.randn(16, 1, 28, 28, dtype=torch.float64), torch.arange(16) % 10
    logits = [net(images) for net in (network, textbook)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-12)
    for each in logits:
        nn.functional.cross_entropy(each, labels).backward()
    ours, theirs = ([parameter.grad for parameter in net.parameters()] for net in (network, textbook))
    ours[2] = channels_first(ours[2])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_weights_start_uniform_after_glorot_and_biases_at_zero() -> None:
    network = BaselineCNN((1, 28, 28), 10)
    limit = math.sqrt(6 / (5408 + 128))  # of the largest layer: 5408 inputs, 128 outputs
    weights = network.hidden.weight.detach().abs()
    assert 0.99 * limit < weights.max() <= limit
    assert weights.mean().item() == pytest.approx(limit / 2, rel=0.01)
    assert all((bias == 0).all() for name, bias in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 9), (4, 32, 32)])
def test_any_image_of_4x4_pixels_or_more_gives_one_logit_a_class(shape: tuple[int, int, int]) -> None:
    assert BaselineCNN(shape, 7)(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 3, 28), (1, 28, 3)])
def test_smaller_images_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=r"^model\.network: .*4×4 pixels or more"):
        build_network("BaselineCNN", {}, shape, 10)


def test_filters_and_hidden_set_the_widths() -> None:
    network = BaselineCNN((1, 8, 8), 10, filters=4, hidden=6)
    assert network.conv.out_channels == 4
    assert (network.hidden.in_features, network.hidden.out_features) == (4 * 3 * 3, 6)
