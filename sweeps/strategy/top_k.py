"""A pruner that decides once: only a trial among the best so far continues.

Egele, Guyon et al. (2023), Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?, arXiv 2307.15422.
"""

import math

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial


class TopKPruner(BasePruner):
    """After epoch number `epoch`, stops a trial that `keep` other trials, however they ended, beat in that epoch."""

    def __init__(self, *, keep: int, epoch: int) -> None:
        self._keep, self._epoch = keep, epoch

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if trial.last_step != self._epoch:
            return False
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        own = sign * trial.intermediate_values[self._epoch]
        if math.isnan(own):
            return True
        others = (
            sign * other.intermediate_values[self._epoch]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self._epoch in other.intermediate_values
        )
        return sum(value > own for value in others) >= self._keep
