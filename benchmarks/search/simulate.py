"""Simulates sweeps in a table's space: the workbench's samplers and pruners, its seeds of draws, and no training."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from benchmarks.search.world import Curve, World
from sweeps.strategy.pruners import PrunerConfig, make_pruner
from sweeps.strategy.samplers import SamplerConfig, make_sampler, next_listed

BUDGETS = (30, 60)  # full trials whose epochs a sweep may spend


@dataclass(frozen=True)
class Way:
    """A way to search: the settings of a sampler and of a pruner."""

    name: str
    sampler: Mapping[str, Any] = field(hash=False)
    pruner: Mapping[str, Any] = field(hash=False)


BASELINE = Way("Optuna's defaults: TPE, median", {"kind": "tpe"}, {"kind": "median"})


@dataclass(frozen=True)
class Outcome:
    """What a simulated sweep has found at each of `BUDGETS`: how far below the best, and in how many trials."""

    regrets: tuple[float, ...]
    trials: tuple[int, ...]


def simulate(world: World, way: Way, seed: int) -> Outcome:
    """Runs one sweep, one trial after another, until the largest budget is spent.

    It would choose the completed trial with the best value. Its regret is the expected score of the best point of the
    space minus that of the point of this trial: luck in a trial's value does not count.
    """
    sampler, pruner = SamplerConfig(**way.sampler), PrunerConfig(**way.pruner)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner, world.epochs))
    spent, best, found, taken = 0, -np.inf, world.best, set[str]()
    regrets: list[float] = []
    trials: list[int] = []
    for slot in range(10**6):
        listed = next_listed(sampler, world.space, _seed(seed, "sampler", 0), [], taken)
        if listed is not None:
            taken.add(listed[0])
            study.enqueue_trial(listed[1])
        study.sampler = make_sampler(sampler, _seed(seed, "sampler", slot))
        trial = study.ask()
        params = world.space.suggest(trial)
        curve = world.curve(params, np.random.default_rng(_seed(seed, "trial", slot)))
        epochs, state = _run(trial, curve)
        for budget in BUDGETS[len(regrets) :]:
            if spent + epochs > budget * world.epochs:  # the trial that is running then does not count
                regrets.append(found)
                trials.append(slot)
        if len(regrets) == len(BUDGETS):
            return Outcome(tuple(regrets), tuple(trials))
        spent += epochs
        study.tell(trial, curve.values[-1] if state == TrialState.COMPLETE else None, state=state)
        if state == TrialState.COMPLETE and curve.values[-1] > best:
            best, found = curve.values[-1], world.best - world.expected(params)
    raise AssertionError("each trial spends an epoch")


def _run(trial: Trial, curve: Curve) -> tuple[int, TrialState]:
    """Reports the epochs until one is the last; returns their number, and how the trial ends."""
    for epoch, value in enumerate(curve.values, start=1):
        trial.report(value, step=epoch)
        if epoch < len(curve.values) and trial.should_prune():
            return epoch, TrialState.PRUNED
    return len(curve.values), TrialState.FAIL if curve.fails else TrialState.COMPLETE


def _seed(seed: int, role: str, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {role} {index}".encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Ratio:
    """The mean regret of a way over that of another one, with its 95 % interval."""

    ratio: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Compares mean regrets of the same seeds: percentile bootstrap over the seeds."""
    ours_S, theirs_S = np.array(ours), np.array(theirs)
    drawn = np.random.default_rng(0).integers(len(ours_S), size=(5_000, len(ours_S)))
    low, high = np.percentile(ours_S[drawn].mean(axis=1) / theirs_S[drawn].mean(axis=1), (2.5, 97.5))
    return Ratio(float(ours_S.mean() / theirs_S.mean()), float(low), float(high))
