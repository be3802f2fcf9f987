"""Twenty networks as people write them. Their images have 1 channel and 8×8 pixels, of ten classes."""

import torch
from torch import nn


class View(nn.Module):
    """Calls `view`, which needs contiguous tensors."""

    def __init__(self, image_shape, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], 4, 3)
        self.output = nn.Linear(4 * 6 * 6, num_classes)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.output(x.view(x.size(0), -1))


class Length(nn.Module):
    """Asks for `len(x)`."""

    def __init__(self, num_classes):
        super().__init__()
        self.output = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.output(x.reshape(len(x), 64))


class Asserts(Length):
    def forward(self, x):
        assert x.shape[1:] == (1, 8, 8), "wrong images"
        assert len(x) > 0
        return super().forward(x)


class BranchesOnData(Length):
    def forward(self, x):
        if x.isnan().any():
            x = x.nan_to_num()
        return super().forward(x)


class Dropout(nn.Sequential):
    def __init__(self, num_classes, rate=0.5):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, num_classes))


class BatchNorm(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))


class LSTMOverRows(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.output = nn.Linear(16, num_classes)

    def forward(self, x):
        outputs, _ = self.lstm(x.squeeze(1))
        return self.output(outputs[:, -1])


class Transformer(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.embed = nn.Linear(8, width)
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.output = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.output(self.encoder(self.embed(x.squeeze(1))).mean(dim=1))


class WrongWidth(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 11))


class WrongChannels(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, num_classes))


class NaNAtOnce(Length):
    def forward(self, x):
        return super().forward(x) / 0 * 0


class WithLambda(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.flatten = lambda x: x.flatten(1)
        self.output = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.output(self.flatten(x))


class NoParameters(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x):
        return x.flatten(1)[:, : self.num_classes]


class SharedWeights(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.output = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.output(self.second(self.first(x.flatten(1)).relu()).relu())


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x / 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 2


class CustomAutograd(Length):
    def forward(self, x):
        return _Halve.apply(super().forward(x))


class NeedsAnArgument(nn.Sequential):
    def __init__(self, num_classes, width):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))


class Prints(Length):
    def forward(self, x):
        print("forward", x.shape)
        return super().forward(x)


class Buffers(Length):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(x.detach().flatten(1).mean(0), alpha=0.1)
        return self.output(x.flatten(1) - self.mean)


class Lazy(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(num_classes))


def compiled(num_classes: int) -> nn.Module:
    return torch.compile(Length(num_classes), backend="aot_eager")


def factory(in_chans: int = 3, num_classes: int = 1000, **kwargs: int) -> nn.Module:
    """As timm's and torchvision's: any other argument goes to a class."""
    return _Made(in_chans, num_classes, **kwargs)


class _Made(nn.Sequential):
    def __init__(self, in_chans: int, num_classes: int, width: int = 8):
        super().__init__(nn.Conv2d(in_chans, width, 3), nn.Flatten(), nn.Linear(width * 36, num_classes))
