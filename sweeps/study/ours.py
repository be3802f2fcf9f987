"""Whether a study that is already in the database is this sweep's own. Another one must not be touched.

A study of the sweep's name may come from another program, or from a sweep whose other study was deleted.
"""

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from lightning_modules import InputError
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.question import Arm

_BEFORE_IDENTITY = {"start", "code"}  # what a killed process may have written to a study of its own
_OF_ARM = {"grid_is_spent"}


def find_study(name: str, database: BaseStorage) -> optuna.Study | None:
    """Returns the study of this name; None if there is none."""
    if name not in optuna.get_all_study_names(database):
        return None
    return optuna.load_study(study_name=name, storage=database)


def finalists_name(sweep: Sweep) -> str:
    """Returns the name of the study with the sweep's finalists."""
    return f"{sweep.name} finalists"


def search_name(sweep: Sweep, arm: Arm) -> str:
    """Returns the name of the study with the trials of one of the sweep's searches."""
    return f"{sweep.name} arm {arm.title}" if sweep.has_question else sweep.name


def finals_name(sweep: Sweep, arm: Arm) -> str:
    """Returns the name of the study with the finalists of one of the sweep's searches."""
    return f"{finalists_name(sweep)} arm {arm.title}" if sweep.has_question else finalists_name(sweep)


def check_search(study: optuna.Study, sweep: Sweep) -> None:
    """Raises InputError if the study of the sweep's name is not a search of this sweep. Writes nothing."""
    trials = study.get_trials(deepcopy=False)
    unknown = sorted(study.user_attrs.keys() - _BEFORE_IDENTITY)
    if difference := _other_direction(study, sweep) or _other_space(trials, sweep.arms[0]):
        raise _refused(study, sweep, difference)
    if "identity" not in study.user_attrs and (trials or unknown):
        what = "trials" if trials else f"the attribute {unknown[0]}"
        raise _refused(study, sweep, f"it has {what}, but no record of a sweep")
    if sweep.has_question and trials:
        raise _refused(study, sweep, "it has trials, and each arm of a question has a study of its own")
    _check_slots(study, sweep)


def check_arm(study: optuna.Study, sweep: Sweep, arm: Arm) -> None:
    """Raises InputError if the study does not hold the trials of this arm of the sweep's question. Writes nothing."""
    unknown = sorted(study.user_attrs.keys() - _OF_ARM)
    if difference := _other_direction(study, sweep) or _other_space(study.get_trials(deepcopy=False), arm):
        raise _refused(study, sweep, difference)
    if unknown:
        raise _refused(study, sweep, f"it has the attribute {unknown[0]}, as an arm never has")
    _check_slots(study, sweep)


def _check_slots(study: optuna.Study, sweep: Sweep) -> None:
    for trial in study.get_trials(deepcopy=False):
        if counts(trial) and "slot" not in trial.user_attrs:
            raise _refused(study, sweep, f"its trial {trial.number} was not run by a sweep")


def check_finalists(study: optuna.Study, sweep: Sweep, arm: Arm, searched: Sequence[FrozenTrial]) -> None:
    """Raises InputError if the study does not hold finalists of this search. Writes nothing.

    `searched`: the trials of all searches of the sweep, whose parameters the finalists have.
    """
    trials = study.get_trials(deepcopy=False)
    if difference := _other_direction(study, sweep) or _other_space(trials, arm):
        raise _refused(study, sweep, difference)
    if study.user_attrs:
        raise _refused(study, sweep, f"it has the attribute {sorted(study.user_attrs)[0]}, as finalists never have")
    for trial in trials:
        number, _ = trial.user_attrs.get("place", (None, None))
        if number is None:
            raise _refused(study, sweep, f"its trial {trial.number} is not the run of a finalist")
        if number >= len(searched):
            message = f"its trial {trial.number} is a finalist of trial {number}, which the search does not have"
            raise _refused(study, sweep, message)
        params = searched[number].params if number >= 0 else {}  # below 0: the recipe's own settings
        if trial.state.is_finished() and trial.params.items() - params.items():
            message = f"its trial {trial.number} is a finalist of trial {number}, but has other parameters"
            raise _refused(study, sweep, message)


def _other_direction(study: optuna.Study, sweep: Sweep) -> str | None:
    theirs = " and ".join(direction.name.lower() for direction in study.directions)
    ours = sweep.config.objective.direction
    return None if theirs == ours else f"it was made to {theirs}, and this sweep is to {ours}"


def _other_space(trials: Sequence[FrozenTrial], arm: Arm) -> str | None:
    """Returns the first parameter of a trial that this search does not have, or not in this range."""
    ours = {parameter.path: parameter.distribution for parameter in arm.space.parameters}
    for trial in trials:
        if trial.state == TrialState.WAITING:
            continue
        for name, distribution in trial.distributions.items():
            if name not in ours:
                return f"its trial {trial.number} has the parameter {name}, which this sweep does not search"
            if distribution != ours[name]:
                ranges = f"{_range(distribution)}, this sweep in {_range(ours[name])}"
                return f"its trial {trial.number} searched {name} in {ranges}"
    return None


def _range(distribution: BaseDistribution) -> str:
    """Returns a short description: `[8, 16]`, `[0.1, 0.9] log`, `[1, 9] step 2`, `(adam, sgd)`."""
    if isinstance(distribution, CategoricalDistribution):
        return f"({', '.join(map(str, distribution.choices))})"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = f" step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"[{distribution.low}, {distribution.high}]{' log' if distribution.log else ''}{step}"


def _refused(study: optuna.Study, sweep: Sweep, difference: str) -> InputError:
    message = f"the Optuna study {study.study_name!r} in this store is not this sweep's: {difference}"
    return InputError("--name", sweep.name, message, "choose another --name; that study was not changed")
