"""Writes `last.ckpt` after every epoch, and `best.ckpt` if the config keeps the best weights.

A finished run keeps at most one of them by default: see kept.py.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import pytorch_lightning as pl
import torch

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT, NEW_CHECKPOINT
from experiments.config import TrainerConfig
from experiments.training.epochs import Epoch, Scores
from lightning_modules.log import LOG


class Checkpoints:
    """An observer that writes Lightning's checkpoints. A new one replaces the old one only when it is complete.

    `history`: the scores of the earlier epochs, if training resumes from a checkpoint.
    """

    def __init__(self, run_folder: Path, config: TrainerConfig, history: Sequence[Scores] = ()) -> None:
        self._last, self._best = run_folder / LAST_CHECKPOINT, run_folder / BEST_CHECKPOINT
        self._last.parent.mkdir(parents=True, exist_ok=True)
        self._new = run_folder / NEW_CHECKPOINT
        self._config = config
        self._highest = -math.inf
        is_best = False
        for scores in history:
            is_best = self._is_best(scores)
        if is_best:
            self._keep_best()  # an earlier process may have been killed after last.ckpt and before best.ckpt

    def __call__(self, epoch: Epoch) -> None:
        epoch.save_checkpoint(self._new)
        self._new.replace(self._last)
        if self._is_best(epoch.scores):
            self._keep_best()

    def _is_best(self, scores: Scores) -> bool:
        """Whether these scores are the best so far and the config keeps the best weights. Remembers the best score."""
        score = self._config.sign * scores[self._config.monitor]
        if not score > self._highest:
            return False
        self._highest = score
        return self._config.weights == "best"

    def _keep_best(self) -> None:
        shutil.copyfile(self._last, self._new)
        self._new.replace(self._best)


def epochs_done(run_folder: Path) -> int:
    """Returns the number of epochs in a run's last checkpoint; 0 if there is none, or a damaged one."""
    checkpoint = run_folder / LAST_CHECKPOINT
    if not checkpoint.exists():
        return 0
    try:
        return int(torch.load(checkpoint, weights_only=True, map_location="cpu")["epoch"]) + 1
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        LOG.warning(f"{checkpoint} is damaged ({reason}): training starts again from the first epoch")
        return 0


def load_weights(module: pl.LightningModule, checkpoint: Path) -> None:
    loaded = torch.load(checkpoint, weights_only=True, map_location="cpu")
    module.load_state_dict(loaded["state_dict"])
