"""Finalists: trains the best configurations again over several seeds and chooses the champion by the mean score.

The recipe's own settings can also become champion. Only the champion reads the test set, once per seed.

Finalists are trials of a second Optuna study, `NAME finalists`. It has one slot per configuration and seed. With a
question, the best configuration of each arm is a finalist, in a study of its own.
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
from lightning_modules.metrics import of_test
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.pace import Pace, seconds_left
from sweeps.strategy.question import Arm
from sweeps.strategy.space import Point, shortened
from sweeps.study.ours import finalists_name, finals_name
from sweeps.study.search import Search
from sweeps.study.stage import ARM, ATTEMPT, Claim, Stage, best_first, deaths, latest_attempt
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
    arm: str = ""  # of the sweep's question
    repeat: int = 0

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

            def open_study(name: str) -> optuna.Study:
                return optuna.create_study(
                    study_name=name,
                    storage=database_of(search.study),
                    sampler=RandomSampler(seed=0),  # draws nothing: the parameters of every trial are given
                    pruner=NopPruner(),
                    direction=sweep.config.objective.direction,
                    load_if_exists=True,
                )

            with search.storage.lock("optuna"):
                study = open_study(finalists_name(sweep))
                arms = tuple(open_study(finals_name(sweep, arm)) for arm in sweep.compared)
            yield cls(store, sweep, study, search.storage, data_sha256, code, arms, search)

    def claim(self) -> Claim | None:
        with self.lock():
            trials = self.trials()
            waiting = next((trial for trial in trials if trial.state == TrialState.WAITING), None)
            if waiting is not None:
                study = self.study_of(waiting)
            else:
                place = self._open_place(trials)
                if place is None:
                    return None
                study = self._study_at(place[0])
                study.enqueue_trial(self._params(place[0]), user_attrs={"place": place})
            trial = self.ask(study)
            number, index = place = tuple(trial.user_attrs["place"])
            arm = self._arm_at(number)
            params = arm.space.suggest(trial) if arm is not None else {}
            # All finalists of a repeat share these seeds; no search trial has them.
            seed = self.sweep.seed("finalist" if arm is None else arm.role("finalist"), index)
            self.take(trial, seed=seed)
            counted_as = self.number_of(trial)
        what = OWN_SETTINGS if arm is None else arm.describe(params)
        tags = {
            "workbench.trial": "baseline" if number == BASELINE else str(number),
            "workbench.seed": str(seed),
            CONFIGURATION: what if number == BASELINE else f"trial {number}: {what}",
        }
        return Claim(
            trial=trial,
            number=counted_as,
            seed=seed,
            params=params,
            name=f"finalist {what} #{index + 1}",
            tags=tags | ({ARM: arm.title} if arm is not None and self.sweep.has_question else {}),
            earlier=latest_attempt(_attempts_at(trials, place), params),
        )

    def _arm_at(self, number: int) -> Arm | None:
        """Returns the search that has the trial of a finalist; None for the recipe's own settings."""
        if number == BASELINE:
            return None
        return self.search.arm_of(self.search.trials()[number]) if self.sweep.has_question else self.sweep.arms[0]

    def _study_at(self, number: int) -> optuna.Study:
        """Returns the study that has the runs of a finalist."""
        arm = self._arm_at(number)
        return self.study if arm is None or not self.arm_studies else self.arm_studies[self.sweep.arms.index(arm)]

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
        which = _in_short(number, params, self._arm_at(number))
        return f"finalist {which} #{index + 1} of {self.sweep.config.finalists.seeds}"

    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Says whose mean is the best, among the configurations that ran with every seed: one seed may be lucky."""
        best = champion_of(self._among(trials, {}), self.sweep.config.objective.sign)
        if best is None:
            return None
        mean, seeds = best.score.mean, len(best.values)
        which = _in_short(best.number, best.params, self._arm_at(best.number))
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
            if number == BASELINE:
                found.setdefault(number, Finalist(number=number, params={}))
            else:
                arm = self.search.arm_of(searched[number])
                finalist = Finalist(number=number, params=searched[number].params, arm=arm.name, repeat=arm.repeat)
                found.setdefault(number, finalist)
            attempts = _attempts_at(trials, place)
            trial = next(filter(counts, attempts), attempts[-1] if attempts else None)
            found[number].trials.append(trial)
            if trial is not None and (run_id := run_ids.get(str(id_of(trial)))) is not None:
                found[number].run_ids.append(run_id)
        return list(found.values())

    def _places(self) -> Iterator[Place]:
        """Yields all slots in order: the best trials of each search, then the baseline, each with every seed."""
        config, searched = self.sweep.config.finalists, self.search.trials()
        is_begun = False
        for arm in self.sweep.arms:
            own = [trial for trial in searched if self.search.arm_of(trial) == arm]
            for trial in best_first(own, self.sweep.config.objective.sign)[: config.top]:
                is_begun = True
                yield from itertools.product([trial.number], range(config.seeds))
        if is_begun and config.baseline:
            yield from itertools.product([BASELINE], range(config.seeds))

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


def read_test(store: Store, finalist: Finalist, dataset: ImageDataset | None) -> None:
    """Scores on the test split each of the finalist's runs that has no test score yet."""
    for run_id in finalist.run_ids:
        data = store.client.get_run(run_id).data
        has_scores = any(map(of_test, data.metrics))
        if not has_scores or data.tags.get("workbench.outcome") != "finished":
            runner.read_test(store, run_id, dataset=dataset)


def _in_short(number: int, params: Mapping[str, Any], arm: Arm | None) -> str:
    """Describes a configuration; one that is long by its first words and its trial in the search."""
    whole = OWN_SETTINGS if arm is None else arm.describe(params)
    short = shortened(whole)
    return short if short == whole else f"{short} (trial {number})"


def _attempts_at(trials: Sequence[FrozenTrial], place: Place) -> list[FrozenTrial]:
    """Returns the trials of one slot, in order."""
    return [trial for trial in trials if trial.user_attrs.get("place") == list(place)]
