"""`last.ckpt` after every epoch, and `best.ckpt` where the config keeps the best weights."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT
from experiments.config import TrainerConfig
from experiments.training.epochs import Epoch, Scores
from lightning_modules import ImageClassifier
from lightning_modules.metrics import sign_of


class Checkpoints:
    """An observer that writes Lightning's checkpoints; each replaces the one before only once it is complete.

    `history`: the scores of the epochs before, where training continues from a checkpoint.
    """

    def __init__(self, run_folder: Path, config: TrainerConfig, history: Sequence[Scores] = ()) -> None:
        self._last, self._best = run_folder / LAST_CHECKPOINT, run_folder / BEST_CHECKPOINT
        self._last.parent.mkdir(parents=True, exist_ok=True)
        self._new = self._last.with_name("new.ckpt")
        self._config = config
        self._highest = -math.inf
        is_best = False
        for scores in history:
            is_best = self._is_best(scores)
        if is_best:
            self._keep_best()  # a process killed between the two files wrote last.ckpt alone

    def __call__(self, epoch: Epoch) -> None:
        epoch.trainer.save_checkpoint(self._new)
        self._new.replace(self._last)
        if self._is_best(epoch.scores):
            self._keep_best()

    def _is_best(self, scores: Scores) -> bool:
        """Whether the best weights are kept, and these are better than all before."""
        score = sign_of(self._config.monitor) * scores[self._config.monitor]
        if not score > self._highest:
            return False
        self._highest = score
        return self._config.weights == "best"

    def _keep_best(self) -> None:
        shutil.copyfile(self._last, self._new)
        self._new.replace(self._best)


def epochs_done(run_folder: Path) -> int:
    """After how many epochs a run wrote its last checkpoint; 0 where it has none."""
    checkpoint = run_folder / LAST_CHECKPOINT
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True, map_location="cpu")["epoch"]) + 1


def load_weights(classifier: ImageClassifier, checkpoint: Path) -> int:
    """Loads the weights of a checkpoint; the optimizer step it was written at."""
    loaded = torch.load(checkpoint, weights_only=True, map_location="cpu")
    classifier.load_state_dict(loaded["state_dict"])
    return int(loaded["global_step"])
