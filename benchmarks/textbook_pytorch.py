"""The plain PyTorch training loop, as in the tutorials; nothing is tracked."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5408, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def train(
    splits: dict[str, tuple[Tensor, Tensor]],
    epochs: int,
    *,
    batch_size: int = 32,
    device: str = "cpu",
    clock: Callable[[], None] = lambda: None,
) -> float:
    """Trains, validates after each epoch, and returns the accuracy on test.

    Splits: float images (N, 1, 28, 28), labels. `clock` is called when the training of an epoch begins and ends.
    """
    loaders = {
        name: DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=name == "train")
        for name, (images, labels) in splits.items()
    }
    model = network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        clock()
        for images, labels in loaders["train"]:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        clock()
        accuracy(model, loaders["val"], device)
    return accuracy(model, loaders["test"], device)


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], device: str) -> float:
    model.eval()
    correct = images_seen = 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            correct += int((model(images).argmax(dim=1) == labels).sum())
            images_seen += len(labels)
    return correct / images_seen
