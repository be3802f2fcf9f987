"""A sweep's two stages, search and finalists, as what workers do: claim a slot, fill it, until none is open.

A stage is an Optuna study. A slot is filled by a trial that counts: completed, pruned, or failed by its own doing. A
trial that was interrupted or whose process died leaves its slot open, for one that goes on from its last checkpoint.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.process.owner import Owner
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import Outcome
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.space import Point
from sweeps.study.storage import Storage, give_sign_of_life, id_of

ATTEMPT = "workbench.attempt"  # the tag of a run that holds the id of its Optuna trial


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this process has taken: nobody else runs it."""

    trial: Trial
    seed: int
    params: Point
    name: str  # of its MLflow run
    tags: dict[str, str]  # of its MLflow run
    earlier: int | None  # the id of the latest trial that left this slot open, with the same parameters


@dataclass(frozen=True)
class Stage(ABC):
    """One stage of one sweep in one store."""

    store: Store
    sweep: Sweep
    study: optuna.Study
    storage: Storage

    kind: ClassVar[Literal["trial", "finalist"]]  # of its MLflow runs

    @classmethod
    @abstractmethod
    def open(cls, store: Store, sweep: Sweep, data_sha256: str) -> AbstractContextManager[Self]:
        """Opens the stage for a `with` block, whose end closes its database; makes its study where that is missing.

        Raises InputError where the sweep began with other settings.
        """

    @abstractmethod
    def claim(self) -> Claim | None:
        """Takes the lowest open slot, under the sweep's lock; None once no slot is open."""

    @abstractmethod
    def has_open_slot(self) -> bool:
        """Whether there is a slot to take."""

    @property
    @abstractmethod
    def target(self) -> int | None:
        """How many slots there are; None where that is not known beforehand."""

    @property
    @abstractmethod
    def sweep_run_id(self) -> str:
        """The sweep's own MLflow run, the parent of the runs of its trials."""

    def is_running(self) -> bool:
        """Whether any process is at work on a trial."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def trials(self) -> list[FrozenTrial]:
        """All there are, in order."""
        return self.study.get_trials(deepcopy=False)

    def lock(self) -> Any:
        """Held by whoever takes or frees a slot."""
        return self.storage.lock(f"sweep-{self.sweep.name}")

    def ask(self) -> Trial:
        """The next trial of the study."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # to be used with Study.optimize
            return self.study.ask()

    def take(self, trial: Trial, **attributes: Any) -> None:
        """Makes a trial this process's own."""
        for name, value in {**attributes, "owner": str(Owner.current())}.items():
            trial.set_user_attr(name, value)
        give_sign_of_life(self.study, trial)


def settle(study: optuna.Study, trial: Trial, outcome: Outcome, value: float | None = None, error: str = "") -> None:
    """Tells the study how a trial ended, and why; nothing happens where others took it over and ended it already."""
    try:
        trial.set_user_attr("outcome", outcome)
        if trial.user_attrs.get("owner") != str(Owner.current()):
            trial.set_user_attr("settled_by_another", True)  # when it really ended is not known
        if error:
            trial.set_user_attr("error", error)
    except UpdateFinishedTrialError:
        return
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(outcome, TrialState.FAIL)
    study.tell(trial, value if outcome == "finished" else None, state=state, skip_if_finished=True)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that fill a slot, in order."""
    return [trial for trial in study.get_trials(deepcopy=False) if counts(trial)]


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials, best value first; of equal ones the earlier."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))


def left_open_by(earlier: Sequence[FrozenTrial], params: Point) -> int | None:
    """The id of the latest of a slot's earlier trials that had the same parameters."""
    return next((id_of(trial) for trial in reversed(earlier) if trial.params == params), None)


def deaths(earlier: Sequence[FrozenTrial]) -> int:
    """How many of a slot's trials, of the same parameters, cost their process its life."""
    return sum(trial.user_attrs.get("outcome") == "died" for trial in earlier)
