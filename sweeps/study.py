"""The Optuna study of a sweep: storage, sampler, pruner, and who may take which slot.

A sweep has as many slots as `budget.trials`. A slot is filled by a trial that counts: completed, pruned, or failed by
its own doing. A trial that was interrupted or whose process died leaves its slot open: the same parameters are tried
again, after `retries` deaths new ones. Seeds hang on the slot.
"""

import json
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.owner import Owner
from experiments.store import Store, check_database, enable_wal
from experiments.tracking import Outcome
from lightning_modules import InputError
from sweeps.config import Sweep
from sweeps.space import Scalar

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this process has taken: nobody else runs it."""

    trial: Trial
    slot: int
    seed: int
    params: dict[str, Scalar]


def open_study(store: Store, sweep: Sweep, data_sha256: str) -> optuna.Study:
    """The sweep's study, made when it is missing. Raises InputError where it was started with other settings."""
    database = store.folder / "optuna.db"
    with store.lock("optuna"):
        if database.exists():
            check_database(database)
        storage = RDBStorage(store.optuna_url)
        enable_wal(database)
        study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction=sweep.config.objective.direction,
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        identity = json.loads(json.dumps(sweep.identity() | {"data": data_sha256}))
        before = study.user_attrs.get("identity")
        if before is None:
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
        slot = next(iter(_open_slots(trials, sweep.config.budget.trials)), None)
        if slot is None:
            return None
        earlier = [trial for trial in trials if trial.user_attrs.get("slot") == slot]
        if earlier and not any(trial.state == TrialState.WAITING for trial in trials):
            _enqueue_again(study, earlier[-1], sweep.config.retries)
        # Reseeded for every draw, so that a sweep cut in two draws what the whole one would have drawn.
        study.sampler = _sampler(sweep, sweep.seed(f"sampler {len(earlier)}", slot))
        trial = study.ask()
        slot = trial.user_attrs.get("slot", slot)
        params = sweep.space.suggest(trial)
        seed = sweep.seed("trial", slot)
        for name, value in {"slot": slot, "seed": seed, "owner": str(Owner.current())}.items():
            trial.set_user_attr(name, value)
        return Claim(trial=trial, slot=slot, seed=seed, params=params)


def open_slots(study: optuna.Study, sweep: Sweep) -> list[int]:
    """The slots that nobody has filled, and nobody is about to."""
    return _open_slots(study.get_trials(deepcopy=False), sweep.config.budget.trials)


def is_running(study: optuna.Study) -> bool:
    """Whether any process is at work on a trial."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def settle(study: optuna.Study, trial: Trial, outcome: Outcome, value: float | None = None, error: str = "") -> None:
    """Tells the study how a trial ended, and why."""
    trial.set_user_attr("outcome", outcome)
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
    return [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]


def slot_lock(store: Store, sweep: Sweep) -> Any:
    """Held by whoever takes or frees a slot."""
    return store.lock(f"sweep-{sweep.name}".replace("/", "_"))


def _counts(trial: FrozenTrial) -> bool:
    if trial.state == TrialState.FAIL:
        return bool(trial.user_attrs.get("outcome") == "failed")
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _open_slots(trials: list[FrozenTrial], target: int) -> list[int]:
    taken = {t.user_attrs.get("slot") for t in trials if _counts(t) or t.state == TrialState.RUNNING}
    return [slot for slot in range(target) if slot not in taken]


def _enqueue_again(study: optuna.Study, last: FrozenTrial, retries: int) -> None:
    deaths = last.user_attrs.get("deaths", 0) + (last.user_attrs.get("outcome") == "died")
    if last.params and deaths <= retries:
        study.enqueue_trial(last.params, user_attrs={"slot": last.user_attrs["slot"], "deaths": deaths})


def _sampler(sweep: Sweep, seed: int) -> BaseSampler:
    return TPESampler(seed=seed) if sweep.config.sampler.kind == "tpe" else RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> BasePruner:
    pruner = sweep.config.pruner
    if pruner.kind == "none":
        return NopPruner()
    return MedianPruner(n_startup_trials=pruner.startup_trials, n_warmup_steps=pruner.warmup_epochs)
