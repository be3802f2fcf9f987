"""The residual network for small images of He, Zhang, Ren and Sun, Deep Residual Learning, CVPR 2016, section 4.2."""

from typing import Literal

from torch import Tensor, nn

# Shapes: N images, C channels, H x W pixels, K classes.
Norm = Literal["group", "batch"]
_GROUPS = 8  # of channels; Wu and He, Group Normalization, ECCV 2018, find 8 to 32 alike


class ResNet(nn.Module):
    """Maps float images (N, C, H, W) to logits (N, K): a convolution, three stages of blocks, the mean over all places.

    `depth` is 6n + 2: each stage has n blocks of two convolutions, and the second and the third stage halve the size
    and double the width. `width`: the channels of the first stage, a multiple of 8. A shortcut that changes the shape
    is a 1×1 convolution (option B of the paper). `norm`: `group` is the same in training and in evaluation, and does
    not depend on the batch. ResNet-20 of width 16 has 272,186 parameters for 28×28×1 images of 10 classes.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        depth: int = 20,
        width: int = 16,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"ResNet needs a depth of 6n + 2 (8, 14, 20, …), got {depth}")
        if width < _GROUPS or width % _GROUPS:
            raise ValueError(f"ResNet needs a width that is a multiple of {_GROUPS}, got {width}")
        if norm not in ("group", "batch"):
            raise ValueError(f"ResNet needs the norm group or batch, got {norm}")
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(_Block(channels, width * 2**stage, stride, norm))
                channels = width * 2**stage
        self.stem = nn.Sequential(_conv(image_shape[0], width, 3), _norm(norm, width), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_NC: Tensor = self.blocks(self.stem(images_NCHW)).mean(dim=(2, 3))
        logits_NK: Tensor = self.output(features_NC)
        return logits_NK


class _Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, outputs, 3, stride),
            _norm(norm, outputs),
            nn.ReLU(inplace=True),
            _conv(outputs, outputs, 3),
        )
        self.last_norm = _norm(norm, outputs)
        nn.init.zeros_(self.last_norm.weight)  # the block begins as its shortcut (Goyal et al. 2017)
        changes = stride > 1 or channels != outputs
        self.shortcut = (
            nn.Sequential(_conv(channels, outputs, 1, stride), _norm(norm, outputs)) if changes else nn.Identity()
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        added_NCHW: Tensor = self.last_norm(self.body(images_NCHW)) + self.shortcut(images_NCHW)
        return added_NCHW.relu()


def _conv(channels: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, size, stride, padding=size // 2, bias=False)


def _norm(kind: Norm, channels: int) -> nn.GroupNorm | nn.BatchNorm2d:
    return nn.GroupNorm(_GROUPS, channels) if kind == "group" else nn.BatchNorm2d(channels)
