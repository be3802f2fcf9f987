"""Parts as a user writes them, in a file beside the recipe: what own_parts.yaml names."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Smooth(nn.Module):
    def __init__(self, smoothing=0.1):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01, scale=1.0):
        super().__init__(params, {"lr": lr, "scale": scale})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    weights.add_(weights.grad.sign(), alpha=-group["lr"] * group["scale"])
        return loss


def ramp(optimizer, total_steps, start=0.5):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: start + (1 - start) * step / total_steps)


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)


class Confidence:
    """The mean highest probability, to the power of `power`."""

    higher_is_better = True

    def __init__(self, power=1):
        self.power = power
        self.sum = self.count = 0

    def update(self, probabilities, labels):
        self.sum += probabilities.max(dim=1).values.pow(self.power).sum()
        self.count += len(labels)

    def compute(self):
        return self.sum / self.count


def share_of(probabilities, labels, label=0):
    return (labels == label).double().mean()


class Counting(pl.Callback):
    """Logs how many epochs it has seen since the run began, over all its processes."""

    def __init__(self, start=0):
        self.seen = start

    def on_train_epoch_end(self, trainer, module):
        self.seen += 1
        module.log("counted/epochs", float(self.seen))

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Invert:
    def __init__(self, generator, share=0.5):
        self.generator, self.share = generator, share

    def __call__(self, images):
        chosen = torch.rand(len(images), generator=self.generator) < self.share
        return torch.where(chosen[:, None, None, None], 16 - images, images)


def digits_without(label=9):
    digits = load_digits()
    kept = digits.target != label
    return {"x": digits.images[kept].astype("uint8"), "y": digits.target[kept]}
