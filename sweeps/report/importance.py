"""How much each searched field matters: its share of the variation between trials, with an interval."""

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

ENOUGH = 20  # completed trials; from fewer, the shares are mostly chance
_RESAMPLES, _TREES = 12, 24


def importance(study: optuna.Study) -> dict[str, Any]:
    """Returns `fields`, the most important first: path, share and ci95; and `reason`: why there are none, else empty.

    The shares are those of fANOVA (Hutter, Hoos and Leyton-Brown 2014), of the fields that all trials have. The
    interval is Efron's percentile interval over trials drawn again with replacement.
    """
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE and t.value is not None]
    names = _varied(complete)
    if len(complete) < ENOUGH:
        return {"fields": [], "reason": f"{len(complete)} completed trials are too few: it takes {ENOUGH}"}
    if len(names) < 2 or np.ptp([trial.value for trial in complete]) == 0:
        return {"fields": [], "reason": "fewer than two fields vary in all trials, or all values are equal"}
    draw = np.random.default_rng(0)
    shares = _shares(study, complete, names)
    again = []
    for _ in range(_RESAMPLES):
        drawn = [complete[index] for index in draw.integers(len(complete), size=len(complete))]
        if _varied(drawn) == names and np.ptp([trial.value for trial in drawn]) > 0:
            again.append(_shares(study, drawn, names))
    rows = []
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        low, high = np.quantile([each[name] for each in [*again, shares]], [0.025, 0.975])
        rows.append({"path": name, "share": share, "ci95": (float(low), float(high))})
    return {"fields": rows, "reason": ""}


def _varied(trials: list[FrozenTrial]) -> list[str]:
    """Returns the fields that every trial has and that take more than one value."""
    common = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    return sorted(name for name in common if len({trial.params[name] for trial in trials}) > 1)


def _shares(study: optuna.Study, trials: list[FrozenTrial], names: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        copy = optuna.create_study(direction=study.direction)
        copy.add_trials(trials)
        evaluator = FanovaImportanceEvaluator(seed=0, n_trees=_TREES)
        return {name: float(share) for name, share in evaluator.evaluate(copy, params=names).items()}
