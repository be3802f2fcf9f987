"""`trace.jsonl`: exact losses and SHA-256 of data, split order and weights, stage by stage, to tell runs apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from lightning_modules import ImageDataModule


class Trace(Checkpoint):
    """Writes one line a stage (data, split, initial_weights) and one an epoch; floats as hexadecimal, exact.

    A `Checkpoint`, because Lightning calls those last at an epoch's end, when the epoch's scores are known. Keeps the
    scores as `history` too: one dict an epoch, with `epoch` and `step`.
    """

    def __init__(self, path: Path, data: ImageDataModule) -> None:
        self.path = path
        self.data = data
        self.history: list[dict[str, float]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        order = {
            name: hashlib.sha256(subset.indices.tobytes()).hexdigest() for name, subset in self.data.splits.items()
        }
        self._write(stage="data", sha256=self.data.dataset.sha256)
        self._write(stage="split", sha256=order)
        self._write(stage="initial_weights", sha256=weights_sha256(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        scores = {name: value for name, value in scores.items() if name.startswith(("train/", "val/"))}
        exact = {name: value.hex() for name, value in scores.items()}
        place = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self.history.append(place | scores)
        self._write(stage="epoch", **place, metrics=exact, weights=weights_sha256(pl_module))

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
