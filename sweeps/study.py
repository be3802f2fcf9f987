"""The Optuna study of a sweep: storage, sampler, pruner, and who may take which slot.

A sweep has as many slots as its budget allows (sweeps/budget.py). A slot is filled by a trial that counts: completed,
pruned, or failed by its own doing. A trial that was interrupted or whose process died leaves its slot open: the same
parameters are tried again, after `retries` deaths new ones. Seeds hang on the slot.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.config import sign_of
from experiments.owner import Owner
from experiments.store import Store, check_database, enable_wal
from experiments.tracking import Outcome
from lightning_modules import InputError
from sweeps.budget import counts, open_slot
from sweeps.config import Sweep
from sweeps.finalists import best_trials
from sweeps.pruners import make_pruner
from sweeps.samplers import make_sampler, next_listed
from sweeps.space import Point
from sweeps.start import earlier_study, first_points

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this process has taken: nobody else runs it."""

    trial: Trial
    slot: int
    seed: int
    params: Point


def open_study(store: Store, sweep: Sweep, data_sha256: str) -> optuna.Study:
    """The sweep's study, made when it is missing. Raises InputError where it was started with other settings."""
    database = store.folder / "optuna.db"
    with store.lock("optuna"):
        if database.exists():
            check_database(database)
        storage = RDBStorage(store.optuna_url)
        enable_wal(database)
        start = [] if _is_started(sweep.name, storage) else _first_points(sweep, storage)
        study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction=sweep.config.objective.direction,
            pruner=make_pruner(sweep.config.pruner, sweep.max_epochs),
            load_if_exists=True,
        )
        identity = json.loads(json.dumps(sweep.identity() | {"data": data_sha256}))
        before = study.user_attrs.get("identity")
        if before is None:
            study.set_user_attr("start", start)
            study.set_user_attr("identity", identity)
        elif before != identity:
            name = next(key for key in {**before, **identity} if before.get(key) != identity.get(key))
            message = f"the sweep {sweep.name} was started with {before.get(name)!r}"
            remedy = "set it back, or start a sweep of its own with --name"
            raise InputError(name, identity.get(name), message, remedy)
    return study


def claim(store: Store, study: optuna.Study, sweep: Sweep) -> Claim | None:
    """Takes the lowest open slot and draws its parameters, under the sweep's lock; None once no slot is open."""
    with slot_lock(store, sweep):
        trials = study.get_trials(deepcopy=False)
        slot = _open_slot(trials, sweep)
        if slot is None:
            return None
        earlier = [trial for trial in trials if trial.user_attrs.get("slot") == slot]
        is_waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not is_waiting and not (earlier and _enqueue_again(study, earlier[-1], sweep.config.retries)):
            is_listed = _enqueue_listed(study, sweep, trials, slot)
            if not is_listed and sweep.config.sampler.kind == "grid":
                study.set_user_attr("grid_is_spent", True)  # some of its points killed their process again and again
                return None
        # Reseeded for every draw, so that a sweep cut in two draws what the whole one would have drawn.
        study.sampler = make_sampler(sweep.config.sampler, sweep.seed(f"sampler {len(earlier)}", slot))
        trial = study.ask()
        slot = trial.user_attrs.get("slot", slot)
        params = sweep.space.suggest(trial)
        seed = sweep.seed("trial", slot)
        for name, value in {"slot": slot, "seed": seed, "owner": str(Owner.current())}.items():
            trial.set_user_attr(name, value)
        return Claim(trial=trial, slot=slot, seed=seed, params=params)


def has_open_slot(study: optuna.Study, sweep: Sweep) -> bool:
    """Whether there is a slot to take."""
    if study.user_attrs.get("grid_is_spent"):
        return False
    return _open_slot(study.get_trials(deepcopy=False), sweep) is not None


def is_running(study: optuna.Study) -> bool:
    """Whether any process is at work on a trial."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def settle(study: optuna.Study, trial: Trial, outcome: Outcome, value: float | None = None, error: str = "") -> None:
    """Tells the study how a trial ended, and why."""
    trial.set_user_attr("outcome", outcome)
    if trial.user_attrs.get("owner") != str(Owner.current()):
        trial.set_user_attr("settled_by_another", True)  # when it really ended is not known
    if error:
        trial.set_user_attr("error", error)
    match outcome:
        case "finished":
            study.tell(trial, value)
        case "pruned":
            study.tell(trial, state=TrialState.PRUNED)
        case _:
            study.tell(trial, state=TrialState.FAIL)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that fill a slot, in order."""
    return [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]


def slot_lock(store: Store, sweep: Sweep) -> Any:
    """Held by whoever takes or frees a slot."""
    return store.lock(f"sweep-{sweep.name}".replace("/", "_"))


def _is_started(name: str, storage: RDBStorage) -> bool:
    if name not in optuna.get_all_study_names(storage):
        return False
    return "identity" in optuna.load_study(study_name=name, storage=storage).user_attrs


def _open_slot(trials: list[FrozenTrial], sweep: Sweep) -> int | None:
    return open_slot(trials, sweep.config.budget, sign_of(sweep.config.objective.metric), datetime.now())


def _first_points(sweep: Sweep, storage: RDBStorage) -> list[Point]:
    start = sweep.config.start
    earlier = best_trials(earlier_study(start.sweep, storage)) if start.sweep is not None else []
    return first_points(start, sweep.space, earlier)


def _enqueue_again(study: optuna.Study, last: FrozenTrial, retries: int) -> bool:
    """Has the slot's next trial take the parameters of its last one, unless those cost too many lives."""
    deaths = last.user_attrs.get("deaths", 0) + (last.user_attrs.get("outcome") == "died")
    point = last.system_attrs.get("fixed_params", {}) | last.params  # killed while it drew, it may lack params
    is_again = bool(point) and deaths <= retries
    if is_again:
        study.enqueue_trial(point, user_attrs={"slot": last.user_attrs["slot"], "deaths": deaths})
    return is_again


def _enqueue_listed(study: optuna.Study, sweep: Sweep, trials: list[FrozenTrial], slot: int) -> bool:
    """Has the slot's next trial take the next point of the warm start or of the sampler's list, if there is one."""
    start = study.user_attrs["start"] if sweep.config.start.is_given else []
    taken = {trial.user_attrs["listed"] for trial in trials if "listed" in trial.user_attrs}
    found = next_listed(sweep.config.sampler.kind, sweep.space, sweep.seed("sampler", 0), start, taken)
    if found is not None:
        name, point = found
        study.enqueue_trial(point, user_attrs={"slot": slot, "listed": name})
    return found is not None
