"""The networks besides the baseline: their sizes, counted by hand, and what they refuse."""

import pytest
import torch
from torch import nn

from lightning_modules.networks import build_network

SHAPE = (1, 28, 28)


def count(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def test_an_mlp_has_the_weights_of_its_layers() -> None:
    assert count(build_network("MLP", {}, SHAPE, 10)) == (784 * 256 + 256) + (256 * 10 + 10)
    deep = build_network("MLP", {"hidden": [20, 30], "dropout": 0.5}, SHAPE, 10)
    assert count(deep) == (784 * 20 + 20) + (20 * 30 + 30) + (30 * 10 + 10)
    assert sum(isinstance(layer, nn.Dropout) for layer in deep.modules()) == 2
    linear = build_network("MLP", {"hidden": []}, SHAPE, 10)
    assert count(linear) == 7850
    assert linear(torch.zeros(3, *SHAPE)).shape == (3, 10)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_resnet_has_the_weights_of_its_layers(norm: str) -> None:
    """Depth 8: three blocks. Each norm has a weight and a bias a channel."""
    network = build_network("ResNet", {"depth": 8, "width": 8, "norm": norm}, SHAPE, 10)
    stem = 9 * 1 * 8 + 2 * 8
    first = 2 * (9 * 8 * 8 + 2 * 8)
    second = (9 * 8 * 16 + 2 * 16) + (9 * 16 * 16 + 2 * 16) + (8 * 16 + 2 * 16)
    third = (9 * 16 * 32 + 2 * 32) + (9 * 32 * 32 + 2 * 32) + (16 * 32 + 2 * 32)
    assert count(network) == stem + first + second + third + 32 * 10 + 10
    assert network(torch.zeros(3, *SHAPE)).shape == (3, 10)


def test_the_usual_resnet_of_depth_20() -> None:
    """The paper's has 0.27 million."""
    stages = 6 * (9 * 16 * 16 + 32), 14_528 + 4 * (9 * 32 * 32 + 64), 57_728 + 4 * (9 * 64 * 64 + 128)
    assert count(build_network("ResNet", {}, SHAPE, 10)) == (9 * 16 + 32) + sum(stages) + 650 == 272_186


def test_a_block_begins_as_its_shortcut() -> None:
    """Its last norm has a weight of 0: whatever the convolutions give, the result is that of the stem."""
    network = build_network("ResNet", {"depth": 8, "width": 8}, SHAPE, 10)
    images_NCHW = torch.rand(2, *SHAPE)
    assert torch.equal(network.blocks[0](network.stem(images_NCHW)), network.stem(images_NCHW))


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("MLP", {"hidden": [0]}, "widths of 1 or more"),
        ("MLP", {"dropout": 1.0}, "dropout from 0 to below 1"),
        ("ResNet", {"depth": 18}, "6n + 2"),
        ("ResNet", {"width": 12}, "multiple of 8"),
        ("ResNet", {"norm": "layer"}, "norm group or batch"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, args: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words.replace("+", r"\+")):
        build_network(name, args, SHAPE, 10)
