"""The stage that runs repeats: a slot for each seed or fold, in one Optuna study, `NAME seeds` or `NAME folds`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from experiments.code.kept import Code
from experiments.comparison.statistics import Estimate, estimate, overlap_of_folds
from experiments.process.redaction import urls_without_credentials
from experiments.tracking.store import Store
from lightning_modules import InputError
from sweeps.config import Sweep
from sweeps.repeats.plan import FOLD, count_of, is_cross_validation, name_of, seed_of
from sweeps.strategy.budget import counts
from sweeps.strategy.pace import Pace, seconds_left
from sweeps.study.ours import find_study
from sweeps.study.search import first_change
from sweeps.study.stage import Claim, Stage, record_code
from sweeps.study.storage import Storage, id_of

_BEFORE_IDENTITY = {"code"}  # what a killed process may have written to a study of its own
_TAGS = "tags"


class Repeats(Stage):
    """The stage that fills each slot with one run, however often its process dies: no other run can take its place."""

    kind = "repeat"
    reads_test = True

    @classmethod
    @contextmanager
    def open(cls, store: Store, sweep: Sweep, data_sha256: str, code: Code) -> Iterator[Self]:
        storage = Storage(store)
        with storage.open() as database:
            with storage.lock("optuna"):
                study = _study_of(sweep, data_sha256, code, database)
            yield cls(store, sweep, study, storage, data_sha256, code, ())

    def give_tags(self, tags: dict[str, str]) -> None:
        """Gives these tags of the user's to all runs that are claimed from now on, by any worker."""
        self.study.set_user_attr(_TAGS, tags)

    def claim(self) -> Claim | None:
        with self.lock():
            trials = self.trials()
            slot = self._open_slot(trials)
            if slot is None:
                return None
            if not any(trial.state == TrialState.WAITING for trial in trials):
                point = {FOLD: slot} if is_cross_validation(self.sweep) else {}
                self.study.enqueue_trial(point, user_attrs={"slot": slot})
            trial = self.ask(self.study)
            slot = int(trial.user_attrs["slot"])
            params = self.sweep.space.suggest(trial)
            seed = seed_of(self.sweep, slot)
            self.take(trial, seed=seed)
        earlier = _attempts_at(trials, slot)
        return Claim(
            trial=trial,
            number=self.number_of(trial),
            seed=seed,
            params=params,
            name=f"{self.sweep.name} {name_of(self.sweep, slot)}",
            tags={
                **self.study.user_attrs.get(_TAGS, {}),
                "workbench.slot": str(slot),
                "workbench.seed": str(seed),
            },
            earlier=id_of(earlier[-1]) if earlier else None,
        )

    @property
    def sweep_run_id(self) -> str:
        return str(self.study.user_attrs["sweep_run_id"])

    @property
    def target(self) -> int:
        return count_of(self.sweep)

    def has_open_slot(self) -> bool:
        return self._open_slot(self.trials()) is not None

    def name_of(self, trial: FrozenTrial) -> str:
        slot = trial.user_attrs["slot"]
        which = f"fold {slot}" if is_cross_validation(self.sweep) else f"#{slot + 1}"  # the line names the seed, too
        return f"{self.sweep.name} {which} of {self.target}"

    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Says the mean so far: none of them is better than another."""
        values = [trial.value for trial in self.of_slots(trials) if trial is not None and trial.value is not None]
        return f"mean {self.estimate(values).mean:.4f}" if values else None

    def time_left(self, trials: Sequence[FrozenTrial], *, at_a_time: int, now: datetime) -> timedelta | None:
        pace = Pace.of(trials)
        if pace is None:
            return None
        return timedelta(seconds=seconds_left(trials, self.target, pace.full, at_a_time=at_a_time, now=now))

    def of_slots(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial | None]:
        """Returns the trial that fills each slot, or else its latest attempt; None if it was not begun."""
        found: list[FrozenTrial | None] = []
        for slot in range(self.target):
            attempts = _attempts_at(trials, slot)
            found.append(next(filter(counts, attempts), attempts[-1] if attempts else None))
        return found

    def estimate(self, values: Sequence[float]) -> Estimate:
        """Returns the mean of scores of the runs with its interval, corrected if they are folds."""
        return estimate(values, overlap=self.overlap)

    @property
    def overlap(self) -> float:
        """n_val / n_train of a cross-validation; otherwise 0."""
        return overlap_of_folds(self.target) if is_cross_validation(self.sweep) else 0.0

    def _open_slot(self, trials: Sequence[FrozenTrial]) -> int | None:
        for slot in range(self.target):
            if not any(counts(trial) or trial.state == TrialState.RUNNING for trial in _attempts_at(trials, slot)):
                return slot
        return None


def _attempts_at(trials: Sequence[FrozenTrial], slot: int) -> list[FrozenTrial]:
    """Returns the trials of one slot that have begun, in order."""
    begun = (trial for trial in trials if trial.state != TrialState.WAITING)
    return [trial for trial in begun if trial.user_attrs.get("slot") == slot]


def _study_of(repeats: Sweep, data_sha256: str, code: Code, database: RDBStorage) -> optuna.Study:
    """Returns the study of the repeats, creating it if needed.

    Raises InputError, before it writes anything, if it was started with other settings, or is not one of repeats.
    """
    by = "folds" if is_cross_validation(repeats) else "seeds"
    name = f"{repeats.name} {by}"
    study = find_study(name, database)
    identity = json.loads(json.dumps({"repeats": by, **repeats.identity(), "data": data_sha256}))
    before: dict[str, Any] | None = None if study is None else study.user_attrs.get("identity")
    is_ours = before is None or before.get("repeats") == by
    if study is not None and before is None:
        is_ours = not study.get_trials(deepcopy=False) and study.user_attrs.keys() <= _BEFORE_IDENTITY
    if not is_ours:
        message = f"the Optuna study {name!r} in this store is not one of repeats"
        raise InputError("--name", repeats.name, message, "choose another --name; that study was not changed")
    if before is not None and (changed := first_change(urls_without_credentials(before), identity)) is not None:
        message = f"the repeats {repeats.name} over {by} were started with {before.get(changed)!r}"
        remedy = "restore the old value, or start others with another --name"
        raise InputError(changed, identity.get(changed), message, remedy)
    study = optuna.create_study(
        study_name=name,
        storage=database,
        sampler=RandomSampler(seed=0),  # draws nothing: the parameters of every trial are given
        pruner=NopPruner(),
        direction=repeats.config.objective.direction,
        load_if_exists=True,
    )
    if before is None:
        record_code(study, code)
        study.set_user_attr("identity", identity)
    return study
