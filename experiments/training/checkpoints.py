"""`last.ckpt` after every epoch, and `best.ckpt` where the config keeps the best weights."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from experiments.config import TrainerConfig
from experiments.training.epochs import Epoch
from lightning_modules import ImageClassifier
from lightning_modules.metrics import sign_of


class Checkpoints:
    """An observer that writes Lightning's checkpoints, each of which replaces the one before only once it is whole.

    `history`: the scores of the epochs before, where training goes on from a checkpoint.
    """

    def __init__(self, folder: Path, config: TrainerConfig, history: Sequence[Mapping[str, float]] = ()) -> None:
        self._folder = folder
        self._config = config
        *earlier, latest = [-math.inf, *(self._score(scores) for scores in history)]
        self._best = max([*earlier, latest])
        if config.weights == "best" and latest > max(earlier, default=math.inf):
            self._keep_best()  # once more: a process killed between the two files wrote last.ckpt alone

    def __call__(self, epoch: Epoch) -> None:
        new = self._folder / "new.ckpt"
        epoch.trainer.save_checkpoint(new)
        new.replace(self._folder / "last.ckpt")
        if self._config.weights == "best" and self._score(epoch.scores) > self._best:
            self._best = self._score(epoch.scores)
            self._keep_best()

    def _score(self, scores: Mapping[str, float]) -> float:
        """The higher the better, whatever the metric."""
        return sign_of(self._config.monitor) * scores[self._config.monitor]

    def _keep_best(self) -> None:
        new = self._folder / "new.ckpt"
        shutil.copyfile(self._folder / "last.ckpt", new)
        new.replace(self._folder / "best.ckpt")


def epochs_done(run_folder: Path) -> int:
    """After how many epochs a run wrote its last checkpoint; 0 where it has none."""
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True, map_location="cpu")["epoch"]) + 1


def load_weights(classifier: ImageClassifier, checkpoint: Path) -> int:
    """Loads the weights of a checkpoint; the optimizer step it was written at."""
    loaded = torch.load(checkpoint, weights_only=True, map_location="cpu")
    classifier.load_state_dict(loaded["state_dict"])
    return int(loaded["global_step"])
