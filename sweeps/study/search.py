"""The search stage: the sweep's Optuna study, and which parameters and seed the next trial gets.

A search has as many slots as its budget allows (sweeps/strategy/budget.py). An open slot is tried again with the same
parameters; after more than `retries` deaths it gets new ones. The slot determines the seed.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import optuna
from mlflow.exceptions import MlflowException
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from experiments.artifact_names import CODE_BUNDLE
from experiments.code.kept import Code
from experiments.config import LOCATIONS, ExperimentConfig, flatten
from experiments.process.redaction import urls_without_credentials
from experiments.tracking.store import Store
from lightning_modules import InputError
from sweeps.config import BEFORE_SEEDS, Sweep
from sweeps.strategy.budget import open_slot, time_spent
from sweeps.strategy.pace import Pace, seconds_left
from sweeps.strategy.pruners import make_pruner
from sweeps.strategy.samplers import make_sampler, next_listed
from sweeps.strategy.space import Point, describe
from sweeps.strategy.start import earlier_study, first_points
from sweeps.study.ours import check_finalists, check_search, finalists_name, find_study
from sweeps.study.stage import Claim, Stage, best_first, best_trials, latest_attempt
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
            yield cls(store, sweep, study, storage, data_sha256, code)

    def going_on(self, *, code_may_change: bool) -> Self:
        """Returns the stage for a new start of the sweep. Raises InputError if its code has changed and may not."""
        kept = self.study.user_attrs.get("code")
        with tempfile.TemporaryDirectory() as scratch:
            artifacts = Path(scratch)
            if not self.store.is_local and kept is not None and (run_id := self.study.user_attrs.get("sweep_run_id")):
                with suppress(MlflowException):  # the store on this host may have the code, too
                    self.store.client.download_artifacts(run_id, CODE_BUNDLE, scratch)
            began = kept["began"] if kept else ""
            code = self.code.continuing(self.store.folder, kept, artifacts, "sweep", began, may_change=code_may_change)
        return replace(self, code=code)

    def claim(self) -> Claim | None:
        with self.lock():
            study, sweep, trials = self.study, self.sweep, self.trials()
            slot = self._open_slot(trials)
            if slot is None:
                return None
            earlier = _of_slot(trials, slot)
            is_waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not is_waiting and not (earlier and self._enqueue_again(earlier[-1])):
                is_listed = self._enqueue_listed(trials, slot)
                if not is_listed and sweep.config.sampler.kind == "grid":
                    # Slots are open but no point is left: some points repeatedly killed their process.
                    study.set_user_attr("grid_is_spent", True)
                    return None
            # A new sampler with its own seed for every draw: an interrupted sweep then draws the same points.
            study.sampler = make_sampler(sweep.config.sampler, sweep.seed(f"sampler {len(earlier)}", slot))
            trial = self.ask()
            slot = trial.user_attrs.get("slot", slot)
            params = sweep.space.suggest(trial)
            seed = sweep.trial_seed("trial", slot)
            self.take(trial, slot=slot, seed=seed)
        return Claim(
            trial=trial,
            seed=seed,
            params=params,
            name=describe(params),
            tags={"workbench.trial": str(trial.number), "workbench.slot": str(slot)},
            earlier=latest_attempt(_of_slot(trials, slot), params),
        )

    @property
    def sweep_run_id(self) -> str:
        return str(self.study.user_attrs["sweep_run_id"])

    @property
    def target(self) -> int | None:
        return self.sweep.config.budget.target

    def has_open_slot(self) -> bool:
        return not self.study.user_attrs.get("grid_is_spent") and self._open_slot(self.trials()) is not None

    def name_of(self, trial: FrozenTrial) -> str:
        return f"trial {trial.number}"

    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        best = best_first(trials, self.sweep.config.objective.sign)
        return f"best {best[0].value:.4f} in {self.name_of(best[0])}" if best else None

    def time_left(self, trials: Sequence[FrozenTrial], *, at_a_time: int, now: datetime) -> timedelta | None:
        """With the time of the finalists, which come after the search. Only an upper limit with `no_improvement`."""
        budget, pace = self.sweep.config.budget, Pace.of(trials)
        limits = []
        if pace is not None and budget.target is not None:
            limits.append(seconds_left(trials, budget.target, pace.usual, at_a_time=at_a_time, now=now))
        if pace is not None and budget.hours is not None:
            limits.append(max(0.0, budget.hours * 3600 - time_spent(trials, now).total_seconds()))
        if pace is None or not limits:
            return None
        finalists = seconds_left([], self.sweep.config.finalists.slots, pace.full, at_a_time=at_a_time, now=now)
        return timedelta(seconds=min(limits) + finalists)

    def _open_slot(self, trials: list[FrozenTrial]) -> int | None:
        return open_slot(trials, self.sweep.config.budget, self.sweep.config.objective.sign, datetime.now())

    def _enqueue_again(self, last: FrozenTrial) -> bool:
        """Enqueues the last trial's parameters again and returns True, unless too many trials died with them."""
        deaths = last.user_attrs.get("deaths", 0) + (last.user_attrs.get("outcome") == "died")
        point = last.system_attrs.get("fixed_params", {}) | last.params  # params lacks some if it died while drawing
        is_again = bool(point) and deaths <= self.sweep.config.retries
        if is_again:
            self.study.enqueue_trial(point, user_attrs={"slot": last.user_attrs["slot"], "deaths": deaths})
        return is_again

    def _enqueue_listed(self, trials: list[FrozenTrial], slot: int) -> bool:
        """Enqueues the next point of the warm start or of the sampler's list; returns whether there was one."""
        sweep = self.sweep
        start = self.study.user_attrs["start"] if sweep.config.start.is_given else []
        taken = {trial.user_attrs["listed"] for trial in trials if "listed" in trial.user_attrs}
        found = next_listed(sweep.config.sampler, sweep.space, sweep.seed("sampler", 0), start, taken)
        if found is not None:
            name, point = found
            self.study.enqueue_trial(point, user_attrs={"slot": slot, "listed": name})
        return found is not None


def _study_of(sweep: Sweep, data_sha256: str, code: Code, database: RDBStorage) -> optuna.Study:
    """Returns the sweep's study, creating it if needed.

    Raises InputError, before it writes anything, if the sweep was started with other settings, or if the study or that
    of the finalists is not this sweep's.
    """
    study = find_study(sweep.name, database)
    before = None if study is None else study.user_attrs.get("identity")
    identity = json.loads(json.dumps(sweep.with_seeds(before).identity() | {"data": data_sha256}))
    if before is not None and (name := _first_change(urls_without_credentials(before), identity)) is not None:
        message = f"the sweep {sweep.name} was started with {before.get(name)!r}"
        remedy = "restore the old value, or start a new sweep with another --name"
        raise InputError(name, identity.get(name), message, remedy)
    if study is not None:
        check_search(study, sweep)
    if (finals := find_study(finalists_name(sweep), database)) is not None:
        check_finalists(finals, sweep, [] if study is None else study.get_trials(deepcopy=False))
    start = _first_points(sweep, database) if before is None else []
    study = optuna.create_study(
        study_name=sweep.name,
        storage=database,
        direction=sweep.config.objective.direction,
        pruner=make_pruner(sweep.config.pruner, sweep.max_epochs),
        load_if_exists=True,
    )
    if before is None:
        study.set_user_attr("start", start)
        study.set_user_attr("code", {"began": datetime.now().strftime("%Y-%m-%d %H:%M"), **code.as_dict()})
        study.set_user_attr("identity", identity)
    return study


def _of_slot(trials: list[FrozenTrial], slot: int) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.user_attrs.get("slot") == slot]


def _first_change(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Returns the first changed field. A field that an old study lacks is newer than it, and had its default value."""
    defaults = flatten(ExperimentConfig().tree()) | {"seeds": BEFORE_SEEDS}
    names = (name for name in {**before, **now} if name not in LOCATIONS)
    return next((name for name in names if before.get(name, defaults.get(name)) != now.get(name)), None)


def _first_points(sweep: Sweep, database: RDBStorage) -> list[Point]:
    start = sweep.config.start
    earlier = best_trials(earlier_study(start.sweep, database)) if start.sweep is not None else []
    return first_points(start, sweep.space, earlier)
