"""`trace.jsonl`: exact losses and SHA-256 of data, split order and weights, stage by stage, to tell runs apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from experiments.epochs import Epoch
from lightning_modules import ImageDataModule


class Trace:
    """An observer that writes one line an epoch, after one a stage before training; floats as hexadecimal, exact.

    Keeps the scores as `history` too: one dict an epoch, with `epoch`.
    """

    def __init__(self, path: Path, data: ImageDataModule, module: torch.nn.Module) -> None:
        self.path = path
        self.history: list[dict[str, float]] = []
        order = {name: subset.order_sha256 for name, subset in data.splits.items()}
        self._write(stage="data", sha256=data.dataset.sha256)
        self._write(stage="split", sha256=order)
        self._write(stage="initial_weights", sha256=weights_sha256(module))

    def __call__(self, epoch: Epoch) -> None:
        self.history.append({"epoch": epoch.number} | epoch.scores)
        exact = {name: value.hex() for name, value in epoch.scores.items()}
        weights = weights_sha256(epoch.module)
        self._write(stage="epoch", epoch=epoch.number, step=epoch.step, metrics=exact, weights=weights)

    def _write(self, **line: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def weights_sha256(module: torch.nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every parameter and buffer, in row-major order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(torch.uint8).numpy().data if array.dim() else array.numpy().tobytes())
    return digest.hexdigest()
