"""`last.ckpt` after every epoch, and `best.ckpt` where the config keeps the best weights."""

import math
import shutil
from pathlib import Path

import torch

from experiments.config import TrainerConfig, sign_of
from experiments.epochs import Epoch
from lightning_modules import ImageClassifier


class Checkpoints:
    """An observer that writes Lightning's checkpoints, each of which replaces the one before only once it is whole."""

    def __init__(self, folder: Path, config: TrainerConfig) -> None:
        self._folder = folder
        self._config = config
        self._best = -math.inf  # the highest score so far, of signed scores

    def __call__(self, epoch: Epoch) -> None:
        last, new = self._folder / "last.ckpt", self._folder / "new.ckpt"
        epoch.trainer.save_checkpoint(new)
        new.replace(last)
        if self._config.weights == "best":
            score = sign_of(self._config.monitor) * epoch.scores[self._config.monitor]
            if score > self._best:
                self._best = score
                shutil.copyfile(last, new)
                new.replace(self._folder / "best.ckpt")


def load_weights(classifier: ImageClassifier, checkpoint: Path) -> int:
    """Loads the weights of a checkpoint; the optimizer step it was written at."""
    loaded = torch.load(checkpoint, weights_only=True, map_location="cpu")
    classifier.load_state_dict(loaded["state_dict"])
    return int(loaded["global_step"])
