"""Finalists: trains the best configurations again over several seeds and chooses the champion by the mean score.

The recipe's own settings can also become champion. Only the champion reads the test set, once per seed.

Finalists are trials of a second Optuna study, `NAME finalists`. It has one slot per configuration and seed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from experiments import runner
from experiments.code.kept import Code
from experiments.comparison.statistics import Estimate, estimate
from experiments.tracking.runs import children
from experiments.tracking.store import Store
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.pace import Pace, seconds_left
from sweeps.strategy.space import Point, describe, shortened
from sweeps.study.ours import finalists_name
from sweeps.study.search import Search
from sweeps.study.stage import ATTEMPT, Claim, Stage, best_trials, deaths, latest_attempt
from sweeps.study.storage import database_of, id_of

CONFIGURATION = "workbench.configuration"  # this tag of a run says in words what the runs of a finalist share
OWN_SETTINGS = "the recipe's own settings"
BASELINE = -1  # stands for the recipe's own settings where a trial number is expected

Place = tuple[int, int]  # (a trial number of the search or BASELINE, index of a fresh seed): one slot


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration trained over fresh seeds: its trial for each. `values` has their scores, NaN for a failed one."""

    number: int  # its trial number in the search, or BASELINE
    params: dict[str, Any]
    trials: list[FrozenTrial | None] = field(default_factory=list)  # None: not begun yet
    run_ids: list[str] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        return [math.nan if trial is None or trial.value is None else trial.value for trial in self.trials]

    @property
    def has_all_scores(self) -> bool:
        """Whether every seed has a finite score. Only such finalists can become champion."""
        return all(math.isfinite(value) for value in self.values)

    @property
    def is_baseline(self) -> bool:
        return self.number == BASELINE

    @property
    def score(self) -> Estimate:
        return estimate(self.values)

    def merit(self, sign: int) -> float:
        """Returns the mean score times `sign`: higher is better. Rounded, so that no rounding error breaks a tie."""
        return round(sign * self.score.mean, 9) if self.has_all_scores else -math.inf


@dataclass(frozen=True)
class Finals(Stage):
    """The stage that trains the finalists and, if `finalists.baseline` is set, the recipe's own settings."""

    kind = "finalist"
    search: Search

    @classmethod
    @contextmanager
    def open(cls, store: Store, sweep: Sweep, data_sha256: str, code: Code) -> Iterator[Self]:
        with Search.open(store, sweep, data_sha256, code) as search:
            with search.storage.lock("optuna"):
                study = optuna.create_study(
                    study_name=finalists_name(sweep),
                    storage=database_of(search.study),
                    sampler=RandomSampler(seed=0),  # draws nothing: the parameters of every trial are given
                    pruner=NopPruner(),
                    direction=sweep.config.objective.direction,
                    load_if_exists=True,
                )
            yield cls(store, sweep, study, search.storage, data_sha256, code, search)

    def claim(self) -> Claim | None:
        with self.lock():
            trials = self.trials()
            if not any(trial.state == TrialState.WAITING for trial in trials):
                place = self._open_place(trials)
                if place is None:
                    return None
                self.study.enqueue_trial(self._params(place[0]), user_attrs={"place": place})
            trial = self.ask()
            number, index = place = tuple(trial.user_attrs["place"])
            params = self.sweep.space.suggest(trial) if number != BASELINE else {}
            seed = self.sweep.seed("finalist", index)  # all finalists share these seeds; no search trial has them
            self.take(trial, seed=seed)
        what = _described(number, params)
        return Claim(
            trial=trial,
            seed=seed,
            params=params,
            name=f"finalist {what} #{index + 1}",
            tags={
                "workbench.trial": "baseline" if number == BASELINE else str(number),
                "workbench.seed": str(seed),
                CONFIGURATION: what if number == BASELINE else f"trial {number}: {what}",
            },
            earlier=latest_attempt(_attempts_at(trials, place), params),
        )

    @property
    def sweep_run_id(self) -> str:
        return self.search.sweep_run_id

    @property
    def target(self) -> int:
        return len(list(self._places()))

    def has_open_slot(self) -> bool:
        return self._open_place(self.trials()) is not None

    def name_of(self, trial: FrozenTrial) -> str:
        number, index = trial.user_attrs["place"]
        params = trial.system_attrs.get("fixed_params", {}) | trial.params  # params lacks some until all are drawn
        return f"finalist {_in_short(number, params)} #{index + 1} of {self.sweep.config.finalists.seeds}"

    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Says whose mean is the best, among the configurations that ran with every seed: one seed may be lucky."""
        best = champion_of(self._among(trials, {}), self.sweep.config.objective.sign)
        if best is None:
            return None
        mean, seeds, which = best.score.mean, len(best.values), _in_short(best.number, best.params)
        return f"best mean {mean:.4f} over {seeds} seeds: {which}" if seeds > 1 else f"best {mean:.4f}: {which}"

    def time_left(self, trials: Sequence[FrozenTrial], *, at_a_time: int, now: datetime) -> timedelta | None:
        pace = Pace.of(trials) or Pace.of(self.search.trials())
        if pace is None:
            return None
        return timedelta(seconds=seconds_left(trials, self.target, pace.full, at_a_time=at_a_time, now=now))

    def finalists(self) -> list[Finalist]:
        """Returns all finalists, best mean first. The baseline is no finalist and comes last."""
        run_ids = {run.data.tags.get(ATTEMPT): run.info.run_id for run in children(self.store, self.sweep_run_id, {})}
        sign = self.sweep.config.objective.sign
        found = self._among(self.trials(), run_ids)
        return sorted(found, key=lambda each: (each.is_baseline, -each.merit(sign)))

    def _among(self, trials: Sequence[FrozenTrial], run_ids: Mapping[str | None, str]) -> list[Finalist]:
        """Returns the finalists with the values that these trials gave. `run_ids`: of runs, by the ids of trials."""
        searched = self.search.trials()
        found: dict[int, Finalist] = {}
        for place in self._places():
            number = place[0]
            params = {} if number == BASELINE else searched[number].params
            found.setdefault(number, Finalist(number=number, params=params))
            attempts = _attempts_at(trials, place)
            trial = next(filter(counts, attempts), attempts[-1] if attempts else None)
            found[number].trials.append(trial)
            if trial is not None and (run_id := run_ids.get(str(id_of(trial)))) is not None:
                found[number].run_ids.append(run_id)
        return list(found.values())

    def _places(self) -> Iterator[Place]:
        """Returns all slots in order: the best trials of the search, then the baseline, each with every seed."""
        config = self.sweep.config.finalists
        numbers = [trial.number for trial in best_trials(self.search.study)[: config.top]]
        numbers += [BASELINE] if numbers and config.baseline else []
        return itertools.product(numbers, range(config.seeds))

    def _open_place(self, trials: list[FrozenTrial]) -> Place | None:
        for place in self._places():
            attempts = _attempts_at(trials, place)
            is_held = any(counts(trial) or trial.state == TrialState.RUNNING for trial in attempts)
            if not is_held and deaths(attempts) <= self.sweep.config.retries:
                return place
        return None

    def _params(self, number: int) -> Point:
        return {} if number == BASELINE else self.search.trials()[number].params


def champion_of(finalists: Sequence[Finalist], sign: int) -> Finalist | None:
    """Returns the finalist with the best mean; on a tie the baseline, because a search must beat no search.

    `sign`: 1 if a higher score is better, else -1. Returns None if no finalist has a score for every seed.
    """
    scored = [each for each in finalists if each.has_all_scores]
    return max(scored, key=lambda each: (each.merit(sign), each.is_baseline), default=None)


def read_test(store: Store, champion: Finalist, dataset: ImageDataset | None) -> None:
    """Scores on the test split each of the champion's runs that has no test score yet."""
    for run_id in champion.run_ids:
        data = store.client.get_run(run_id).data
        if "test/accuracy" not in data.metrics or data.tags.get("workbench.outcome") != "finished":
            runner.read_test(store, run_id, dataset=dataset)


def _described(number: int, params: Mapping[str, Any]) -> str:
    return describe(params) if number != BASELINE else OWN_SETTINGS


def _in_short(number: int, params: Mapping[str, Any]) -> str:
    """Describes a configuration; one that is long by its first words and its trial in the search."""
    whole = _described(number, params)
    short = shortened(whole)
    return short if short == whole else f"{short} (trial {number})"


def _attempts_at(trials: Sequence[FrozenTrial], place: Place) -> list[FrozenTrial]:
    """Returns the trials of one slot, in order."""
    return [trial for trial in trials if trial.user_attrs.get("place") == list(place)]
