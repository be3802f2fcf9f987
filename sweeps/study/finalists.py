"""The top k configurations again over several seeds, and which of them, or of the recipe's own settings, is champion.

The test set is read once a seed, for the champion alone.

The finalists are trials too, of a study of their own, `NAME finalists`: one slot a configuration and seed.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from experiments import runner
from experiments.comparison.statistics import Estimate, estimate
from experiments.tracking.runs import children
from experiments.tracking.store import Store
from lightning_modules.datasets import ImageDataset
from lightning_modules.metrics import sign_of
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.space import Point, describe
from sweeps.study.search import Search
from sweeps.study.stage import ATTEMPT, Claim, Stage, best_trials, deaths, left_open_by
from sweeps.study.storage import database_of, id_of

BASELINE = -1  # in place of a trial's number: the recipe's own settings

Place = tuple[int, int]  # the number of a trial of the search, and which of the fresh seeds


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A configuration over fresh seeds: its validation scores, one run a seed; NaN where a run gave none."""

    number: int  # of the search's trial, or BASELINE
    params: dict[str, Any]
    values: list[float] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every seed gave a score; only such finalists can become champion."""
        return all(math.isfinite(value) for value in self.values)

    @property
    def is_baseline(self) -> bool:
        return self.number == BASELINE

    @property
    def score(self) -> Estimate:
        return estimate(self.values)

    def merit(self, sign: int) -> float:
        """Its mean, the higher the better; rounded, so that equal scores tie whatever order they were summed in."""
        return round(sign * self.score.mean, 9) if self.is_sound else -math.inf


@dataclass(frozen=True)
class Finals(Stage):
    """Trains the finalists, and the recipe's own settings beside them where `finalists.baseline` is set."""

    kind = "finalist"
    search: Search

    @classmethod
    @contextmanager
    def open(cls, store: Store, sweep: Sweep, data_sha256: str) -> Iterator[Self]:
        with Search.open(store, sweep, data_sha256) as search:
            with search.storage.lock("optuna"):
                study = optuna.create_study(
                    study_name=f"{sweep.name} finalists",
                    storage=database_of(search.study),
                    sampler=RandomSampler(seed=0),  # nothing is drawn: every trial has its parameters
                    pruner=NopPruner(),
                    direction=sweep.config.objective.direction,
                    load_if_exists=True,
                )
            yield cls(store, sweep, study, search.storage, search)

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
            seed = self.sweep.seed("finalist", index)  # the same seeds for all finalists, none of them a trial's
            self.take(trial, seed=seed)
        what = describe(params) if number != BASELINE else "the recipe's own settings"
        return Claim(
            trial=trial,
            seed=seed,
            params=params,
            name=f"finalist {what} #{index + 1}",
            tags={"workbench.trial": "baseline" if number == BASELINE else str(number), "workbench.seed": str(seed)},
            earlier=left_open_by(_at(trials, place), params),
        )

    @property
    def sweep_run_id(self) -> str:
        return self.search.sweep_run_id

    @property
    def target(self) -> int:
        return len(list(self._places()))

    def has_open_slot(self) -> bool:
        return self._open_place(self.trials()) is not None

    def finalists(self) -> list[Finalist]:
        """All of them, best mean first; the baseline, which is no finalist, comes last."""
        run_ids = {run.data.tags.get(ATTEMPT): run.info.run_id for run in children(self.store, self.sweep_run_id, {})}
        trials = self.trials()
        found: dict[int, Finalist] = {}
        for place in self._places():
            number = place[0]
            finalist = found.setdefault(number, Finalist(number=number, params=self._params(number)))
            attempts = _at(trials, place)
            trial = next(filter(counts, attempts), attempts[-1])
            finalist.values.append(math.nan if trial.value is None else trial.value)
            if (run_id := run_ids.get(str(id_of(trial)))) is not None:
                finalist.run_ids.append(run_id)
        sign = sign_of(self.sweep.config.objective.metric)
        return sorted(found.values(), key=lambda each: (each.is_baseline, -each.merit(sign)))

    def _places(self) -> Iterator[Place]:
        """All there are to fill, in order."""
        config = self.sweep.config.finalists
        numbers = [trial.number for trial in best_trials(self.search.study)[: config.top]]
        numbers += [BASELINE] if numbers and config.baseline else []
        return itertools.product(numbers, range(config.seeds))

    def _open_place(self, trials: list[FrozenTrial]) -> Place | None:
        for place in self._places():
            attempts = _at(trials, place)
            is_held = any(counts(trial) or trial.state == TrialState.RUNNING for trial in attempts)
            if not is_held and deaths(attempts) <= self.sweep.config.retries:
                return place
        return None

    def _params(self, number: int) -> Point:
        return {} if number == BASELINE else self.search.trials()[number].params


def champion_of(finalists: Sequence[Finalist], sign: int) -> Finalist | None:
    """The best mean over seeds; of equal ones the baseline: a trial must do better than no search at all.

    `sign`: 1 where a higher score is better, else -1. None where no finalist is sound.
    """
    sound = [each for each in finalists if each.is_sound]
    return max(sound, key=lambda each: (each.merit(sign), each.is_baseline), default=None)


def read_test(store: Store, champion: Finalist, dataset: ImageDataset) -> None:
    """Scores the champion's runs on the test split, those that are not scored yet."""
    for run_id in champion.run_ids:
        data = store.client.get_run(run_id).data
        if "test/accuracy" not in data.metrics or data.tags.get("workbench.outcome") != "finished":
            runner.read_test(store, run_id, dataset=dataset)


def _at(trials: list[FrozenTrial], place: Place) -> list[FrozenTrial]:
    """The attempts at one place, in order."""
    return [trial for trial in trials if trial.user_attrs.get("place") == list(place)]
