"""The plain PyTorch training loop, as the tutorials write it; nothing is tracked."""

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


def train(splits: dict[str, tuple[Tensor, Tensor]], epochs: int) -> float:
    """Trains for `epochs`, validating after each; the accuracy on test. Splits: float images (N, 1, 28, 28), labels."""
    loaders = {
        name: DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=name == "train")
        for name, (images, labels) in splits.items()
    }
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        accuracy(model, loaders["val"])
    return accuracy(model, loaders["test"])


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    model.eval()
    correct = images_seen = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += int((model(images).argmax(dim=1) == labels).sum())
            images_seen += len(labels)
    return correct / images_seen
