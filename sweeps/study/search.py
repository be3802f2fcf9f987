"""The search stage: the sweep's Optuna studies, and which parameters and seed the next trial gets.

A search has as many slots as its budget allows (sweeps/strategy/budget.py). An open slot is tried again with the same
parameters; after more than `retries` deaths it gets new ones. The slot determines the seed.

With a question, each arm is a search with a study and slots of its own. The arm with the fewest trials gets the next
one. The study with the sweep's own name then has no trials: it says what belongs to the whole sweep.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from experiments.code.kept import Code
from experiments.config import LOCATIONS, ExperimentConfig, flatten
from experiments.process.redaction import urls_without_credentials
from experiments.tracking.store import Store
from lightning_modules import InputError
from sweeps.config import BEFORE_SEEDS, Sweep
from sweeps.strategy.budget import counts, open_slot, time_spent
from sweeps.strategy.pace import Pace, seconds_left
from sweeps.strategy.pruners import make_pruner
from sweeps.strategy.question import Arm
from sweeps.strategy.samplers import make_sampler, next_listed
from sweeps.strategy.space import Point, SearchSpace
from sweeps.strategy.start import earlier_studies, first_points
from sweeps.study.ours import (
    check_arm,
    check_finalists,
    check_search,
    finalists_name,
    finals_name,
    find_study,
    search_name,
)
from sweeps.study.stage import ARM, Claim, Stage, best_first, best_trials, joined, latest_attempt, record_code
from sweeps.study.storage import Storage


class Search(Stage):
    """The stage that draws parameters for each slot until the budget is used up."""

    kind = "trial"

    @classmethod
    @contextmanager
    def open(cls, store: Store, sweep: Sweep, data_sha256: str, code: Code) -> Iterator[Self]:
        storage = Storage(store, sweep.config.storage)
        with storage.open() as database:
            with storage.lock("optuna"):
                study = _study_of(sweep, data_sha256, code, database)
                sweep = sweep.with_seeds(study.user_attrs["identity"])
                arms = tuple(_study_of_arm(sweep, arm, database) for arm in sweep.compared)
            yield cls(store, sweep, study, storage, data_sha256, code, arms)

    def claim(self) -> Claim | None:
        with self.lock():
            for arm, study, trials in sorted(self._searches(), key=lambda each: len(_held(each[2]))):  # stable
                if (claim := self._claim_of(arm, study, trials)) is not None:
                    return claim
        return None

    def _searches(self) -> list[tuple[Arm, optuna.Study, list[FrozenTrial]]]:
        """Returns each search's arm, study, and trials in order."""
        studies = self.arm_studies or (self.study,)
        return [
            (arm, study, study.get_trials(deepcopy=False)) for arm, study in zip(self.sweep.arms, studies, strict=True)
        ]

    def _claim_of(self, arm: Arm, study: optuna.Study, trials: list[FrozenTrial]) -> Claim | None:
        """Claims the lowest open slot of one search; returns None if it has none. The caller holds the lock."""
        sweep = self.sweep
        slot = self._open_slot(trials)
        if slot is None:
            return None
        earlier = _of_slot(trials, slot)
        is_waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not is_waiting and not (earlier and self._enqueue_again(study, earlier[-1])):
            is_listed = self._enqueue_listed(arm, study, trials, slot)
            if not is_listed and sweep.config.sampler.kind == "grid":
                # Slots are open but no point is left: some points repeatedly killed their process.
                study.set_user_attr("grid_is_spent", True)
                return None
        # A new sampler with its own seed for every draw: an interrupted sweep then draws the same points.
        study.sampler = make_sampler(sweep.config.sampler, sweep.seed(arm.role(f"sampler {len(earlier)}"), slot))
        trial = self.ask(study)
        slot = trial.user_attrs.get("slot", slot)
        params = arm.space.suggest(trial)
        seed = sweep.trial_seed(arm, slot)
        self.take(trial, slot=slot, seed=seed)
        number = self.number_of(trial)
        tags = {"workbench.trial": str(number), "workbench.slot": f"{arm.title} {slot}".lstrip()}
        return Claim(
            trial=trial,
            number=number,
            seed=seed,
            params=params,
            name=arm.describe(params),
            tags=tags | ({ARM: arm.title} if sweep.has_question else {}),
            earlier=latest_attempt(_of_slot(trials, slot), params),
        )

    @property
    def sweep_run_id(self) -> str:
        return str(self.study.user_attrs["sweep_run_id"])

    @property
    def target(self) -> int | None:
        return self.sweep.target

    def has_open_slot(self) -> bool:
        return any(
            not study.user_attrs.get("grid_is_spent") and self._open_slot(trials) is not None
            for _, study, trials in self._searches()
        )

    def name_of(self, trial: FrozenTrial) -> str:
        return f"trial {trial.number}"

    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        best = best_first(trials, self.sweep.config.objective.sign)
        return f"best {best[0].value:.4f} in {self.name_of(best[0])}" if best else None

    def time_left(self, trials: Sequence[FrozenTrial], *, at_a_time: int, now: datetime) -> timedelta | None:
        """With the time of the finalists, which come after the search. Only an upper limit with `no_improvement`."""
        budget, pace = self.sweep.config.budget, Pace.of(trials)
        limits = []
        if pace is not None and self.target is not None:
            limits.append(seconds_left(trials, self.target, pace.usual, at_a_time=at_a_time, now=now))
        if pace is not None and budget.hours is not None:
            limits.append(max(0.0, budget.hours * 3600 - time_spent(trials, now).total_seconds()))
        if pace is None or not limits:
            return None
        finalists = seconds_left([], self.sweep.finalist_slots, pace.full, at_a_time=at_a_time, now=now)
        return timedelta(seconds=min(limits) + finalists)

    def _open_slot(self, trials: list[FrozenTrial]) -> int | None:
        return open_slot(trials, self.sweep.budget_of_arm, self.sweep.config.objective.sign, datetime.now())

    def _enqueue_again(self, study: optuna.Study, last: FrozenTrial) -> bool:
        """Enqueues the last trial's parameters again and returns True, unless too many trials died with them."""
        deaths = last.user_attrs.get("deaths", 0) + (last.user_attrs.get("outcome") == "died")
        point = last.system_attrs.get("fixed_params", {}) | last.params  # params lacks some if it died while drawing
        is_again = bool(point) and deaths <= self.sweep.config.retries
        if is_again:
            study.enqueue_trial(point, user_attrs={"slot": last.user_attrs["slot"], "deaths": deaths})
        return is_again

    def _enqueue_listed(self, arm: Arm, study: optuna.Study, trials: list[FrozenTrial], slot: int) -> bool:
        """Enqueues the next point of the warm start or of the sampler's list; returns whether there was one."""
        sweep = self.sweep
        start = self.study.user_attrs["start"] if sweep.config.start.is_given else []
        if sweep.has_question:
            start = list(filter(arm.accepts, start))
        taken = {trial.user_attrs["listed"] for trial in trials if "listed" in trial.user_attrs}
        seed = sweep.seed(arm.role("sampler"), 0)
        found = next_listed(sweep.config.sampler, arm.space, seed, start, taken)
        if found is not None:
            name, point = found
            study.enqueue_trial(point, user_attrs={"slot": slot, "listed": name})
        return found is not None


def _study_of(sweep: Sweep, data_sha256: str, code: Code, database: RDBStorage) -> optuna.Study:
    """Returns the sweep's study, creating it if needed.

    Raises InputError, before it writes anything, if the sweep was started with other settings, or if the study or that
    of the finalists is not this sweep's.
    """
    study = find_study(sweep.name, database)
    before = None if study is None else study.user_attrs.get("identity")
    identity = json.loads(json.dumps(sweep.with_seeds(before).identity() | {"data": data_sha256}))
    if before is not None and (name := first_change(urls_without_credentials(before), identity)) is not None:
        message = f"the sweep {sweep.name} was started with {before.get(name)!r}"
        remedy = "restore the old value, or start a new sweep with another --name"
        raise InputError(name, identity.get(name), message, remedy)
    if study is not None:
        check_search(study, sweep)
        _check_repeats(sweep, database)
    _check_studies(sweep, database)
    start = _first_points(sweep, database) if before is None else []
    study = optuna.create_study(
        study_name=sweep.name,
        storage=database,
        direction=sweep.config.objective.direction,
        pruner=make_pruner(sweep.config.pruner, sweep.max_epochs(sweep.arms[0])),
        load_if_exists=True,
    )
    if before is None:
        study.set_user_attr("start", start)
        record_code(study, code)
        study.set_user_attr("identity", identity)
    return study


def _study_of_arm(sweep: Sweep, arm: Arm, database: RDBStorage) -> optuna.Study:
    """Returns the study of one arm of the sweep's question, creating it if needed. `_study_of` has checked it."""
    return optuna.create_study(
        study_name=search_name(sweep, arm),
        storage=database,
        direction=sweep.config.objective.direction,
        pruner=make_pruner(sweep.config.pruner, sweep.max_epochs(arm)),
        load_if_exists=True,
    )


def _check_studies(sweep: Sweep, database: RDBStorage) -> None:
    """Raises InputError if a study of an arm, or one of finalists, is not this sweep's. Writes nothing."""
    known = set(optuna.get_all_study_names(database))

    def load(name: str) -> optuna.Study | None:
        return optuna.load_study(study_name=name, storage=database) if name in known else None

    searches = [(arm, study) for arm in sweep.arms if (study := load(search_name(sweep, arm))) is not None]
    for arm, study in searches if sweep.has_question else []:
        check_arm(study, sweep, arm)
    searched = [(arm, study.get_trials(deepcopy=False)) for arm, study in searches]
    trials = joined((), searched)
    finalists = [(arm, finals_name(sweep, arm)) for arm in sweep.arms]
    if sweep.has_question:  # the recipe's own settings belong to no arm
        finalists.append((Arm(space=SearchSpace((), {})), finalists_name(sweep)))
    for arm, name in finalists:
        if (finals := load(name)) is not None:
            check_finalists(finals, sweep, arm, trials)


def _check_repeats(sweep: Sweep, database: RDBStorage) -> None:
    """Raises InputError if more repeats of the search have trials: trials are numbered through all of them."""
    arm, repeats = sweep.arms[0], sweep.config.question.repeats
    if not sweep.has_question:
        return
    begun = repeats
    while (more := find_study(search_name(sweep, replace(arm, repeat=begun)), database)) is not None and more.trials:
        begun += 1
    if begun > repeats:
        message = f"{begun} repeats of the search have begun"
        raise InputError("question.repeats", repeats, message, f"give {begun} or more")


def _held(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the trials that fill a slot, or may fill it."""
    return [trial for trial in trials if counts(trial) or trial.state == TrialState.RUNNING]


def _of_slot(trials: list[FrozenTrial], slot: int) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.user_attrs.get("slot") == slot]


def first_change(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Returns the first changed field. A field that an old study lacks is newer than it, and had its default value."""
    defaults = flatten(ExperimentConfig().tree()) | {"seeds": BEFORE_SEEDS}
    names = (name for name in {**before, **now} if name not in LOCATIONS)
    return next((name for name in names if before.get(name, defaults.get(name)) != now.get(name)), None)


def _first_points(sweep: Sweep, database: RDBStorage) -> list[Point]:
    start = sweep.config.start
    earlier = best_trials(*earlier_studies(start.sweep, database)) if start.sweep is not None else []
    return first_points(start, sweep.space, earlier)
