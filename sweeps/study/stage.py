"""The interface of a sweep's two stages, and of repeats: workers claim and fill slots until none is open.

Each stage has one Optuna study; in a sweep with a question, one more for each arm. A trial fills its slot if it
completed, was pruned, or failed through its own error. A trial that was interrupted or whose process died leaves its
slot open; the next one resumes from its last checkpoint.
"""

import copy
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import optuna
from mlflow.exceptions import MlflowException
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.artifact_names import CODE_BUNDLE
from experiments.code.kept import Code
from experiments.process.owner import Owner
from experiments.process.redaction import without_credentials
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import Outcome
from sweeps.config import Sweep
from sweeps.strategy.question import Arm
from sweeps.strategy.space import Point
from sweeps.study.storage import Storage, give_sign_of_life, id_of

ARM = "workbench.arm"  # this tag of a run holds the arm of the sweep's question
ATTEMPT = "workbench.attempt"  # this tag of a run holds the id of its Optuna trial


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A trial that this process has claimed; no other process runs it."""

    trial: Trial
    number: int  # of the trial in its stage
    seed: int
    params: Point
    name: str  # the name of its MLflow run
    tags: dict[str, str]  # the tags of its MLflow run
    earlier: int | None  # the id of the latest trial with these parameters that left the slot open


@dataclass(frozen=True)
class Stage(ABC):
    """One stage of one sweep in one store."""

    store: Store
    sweep: Sweep
    study: optuna.Study
    storage: Storage
    data_sha256: str
    code: Code  # what this process's trials are recorded with
    arm_studies: tuple[optuna.Study, ...]  # of a sweep with a question, in the order of its arms: they have the trials

    kind: ClassVar[Literal["trial", "finalist", "repeat"]]  # the kind of its MLflow runs
    reads_test: ClassVar[bool] = False  # whether each of them reads test, at its end

    @classmethod
    @abstractmethod
    def open(cls, store: Store, sweep: Sweep, data_sha256: str, code: Code) -> AbstractContextManager[Self]:
        """Opens the stage for a `with` block and closes its database at the end; creates its study if needed.

        Raises InputError if the sweep was started with other settings.
        """

    def going_on(self, *, code_may_change: bool) -> Self:
        """Returns the stage for a new start of the sweep. Raises InputError if its code has changed and may not."""
        kept = self.study.user_attrs.get("code")
        with tempfile.TemporaryDirectory() as scratch:
            artifacts = Path(scratch)
            if not self.store.is_local and kept is not None and (run_id := self.study.user_attrs.get("sweep_run_id")):
                with suppress(MlflowException):  # the store on this host may have the code, too
                    self.store.client.download_artifacts(run_id, CODE_BUNDLE, scratch)
            began = kept["began"] if kept else ""
            what = "repeats" if self.kind == "repeat" else "sweep"
            code = self.code.continuing(self.store.folder, kept, artifacts, what, began, may_change=code_may_change)
        return replace(self, code=code)

    @abstractmethod
    def claim(self) -> Claim | None:
        """Claims the lowest open slot, under the sweep's lock; returns None if no slot is open."""

    @abstractmethod
    def has_open_slot(self) -> bool:
        """Returns whether a slot is open."""

    @abstractmethod
    def name_of(self, trial: FrozenTrial) -> str:
        """Returns the trial's name in messages: `trial 12`, `finalist adam lr=0.01 #2 of 5`."""

    @abstractmethod
    def best_so_far(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Says what the best value is so far, and whose it is. Returns None if no trial has completed.

        `trials`: all trials of the study, in order.
        """

    @abstractmethod
    def time_left(self, trials: Sequence[FrozenTrial], *, at_a_time: int, now: datetime) -> timedelta | None:
        """Estimates, from the trials that have ended, how long the sweep still runs. Returns None if it cannot be told.

        `trials`: all trials of the study, in order, of which `at_a_time` run side by side.
        """

    @property
    @abstractmethod
    def target(self) -> int | None:
        """The total number of slots; None if it is not known in advance."""

    @property
    @abstractmethod
    def sweep_run_id(self) -> str:
        """The id of the sweep's own MLflow run, the parent of its trials' runs."""

    def is_running(self) -> bool:
        """Returns whether any process is running a trial."""
        return bool(self.running())

    def running(self) -> list[str]:
        """Names the trials that run now, and their processes."""
        trials = running_trials(self.trials())
        owners = [Owner.parse(trial.user_attrs.get("owner", "")) for trial in trials]
        return [
            f"{self.name_of(trial)} in {owner.shown if owner is not None else 'a process that just began it'}"
            for trial, owner in zip(trials, owners, strict=True)
        ]

    def epoch_of(self, trial: FrozenTrial) -> str:
        """Returns which epoch a running trial is in, by what it has reported: `epoch 3/10`."""
        epochs = trial.params.get("trainer.max_epochs", self.sweep.base.trainer.max_epochs)
        return f"epoch {min((trial.last_step or 0) + 1, epochs)}/{epochs}"

    def trials(self) -> list[FrozenTrial]:
        """Returns all trials in the order in which they were made, numbered from 0.

        Those of a sweep with a question have their arm's name and repeat among their attributes.
        """
        trials = self.study.get_trials(deepcopy=False)
        if not self.arm_studies:
            return trials
        studies = zip(self.sweep.arms, self.arm_studies, strict=True)
        return joined(trials, [(arm, study.get_trials(deepcopy=False)) for arm, study in studies])

    def arm_of(self, trial: FrozenTrial) -> Arm:
        """Returns the search to which a trial of this stage belongs, also one of its finalists."""
        which = trial.user_attrs.get("arm", ""), trial.user_attrs.get("repeat", 0)
        return next(arm for arm in self.sweep.arms if (arm.name, arm.repeat) == which)

    def study_of(self, trial: FrozenTrial) -> optuna.Study:
        """Returns the study that has a trial of this stage."""
        if "arm" not in trial.user_attrs:
            return self.study
        return self.arm_studies[self.sweep.arms.index(self.arm_of(trial))]

    def number_of(self, trial: Trial) -> int:
        """Returns the number of a trial in this stage."""
        if not self.arm_studies:
            return trial.number
        return next(each.number for each in self.trials() if id_of(each) == id_of(trial))

    def lock(self) -> Any:
        """Returns the lock to hold while claiming a slot or opening it again."""
        return self.storage.lock(f"sweep-{self.sweep.name}")

    def ask(self, study: optuna.Study) -> Trial:
        """Returns the next trial of one of the stage's studies."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")  # to be used with optimize()
            return study.ask()

    def take(self, trial: Trial, **attributes: Any) -> None:
        """Records this process as the owner of the trial, together with the trial's `attributes`."""
        for name, value in {**attributes, "owner": str(self.store.present())}.items():
            trial.set_user_attr(name, value)
        give_sign_of_life(trial.study, trial)


def record_code(study: optuna.Study, code: Code) -> None:
    """Records in a new study the code with which it was begun, for `Stage.going_on`."""
    study.set_user_attr("code", {"began": datetime.now().strftime("%Y-%m-%d %H:%M"), **code.as_dict()})


def settle(study: optuna.Study, trial: Trial, outcome: Outcome, value: float | None = None, error: str = "") -> None:
    """Records in the study how and why a trial ended. Does nothing if another process took it over and ended it."""
    try:
        trial.set_user_attr("outcome", outcome)
        if trial.user_attrs.get("owner") != str(Owner.current()):
            trial.set_user_attr("settled_by_another", True)  # its true end time is unknown
        if error:
            trial.set_user_attr("error", without_credentials(error))
    except UpdateFinishedTrialError:
        return
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(outcome, TrialState.FAIL)
    study.tell(trial, value if outcome == "finished" else None, state=state, skip_if_finished=True)


def joined(own: Sequence[FrozenTrial], arms: Iterable[tuple[Arm, Sequence[FrozenTrial]]]) -> list[FrozenTrial]:
    """Returns copies of the trials of several studies in the order in which they were made, numbered from 0.

    `own`: of the study that belongs to no arm. The copies of all others say to which arm they belong.
    """
    found = list(map(copy.copy, own))
    for arm, trials in arms:
        for trial in map(copy.copy, trials):
            trial.user_attrs = {**trial.user_attrs, "arm": arm.name, "repeat": arm.repeat}
            found.append(trial)
    found.sort(key=id_of)
    for number, trial in enumerate(found):
        trial.number = number
    return found


def running_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Returns the trials that run now, in any process."""
    return [trial for trial in trials if trial.state == TrialState.RUNNING]


def best_trials(study: optuna.Study, *more: optuna.Study) -> list[FrozenTrial]:
    """Returns the completed trials of one or more studies, best value first; on a tie the earlier trial first."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    return best_first([trial for each in (study, *more) for trial in each.get_trials(deepcopy=False)], sign)


def best_first(trials: Sequence[FrozenTrial], sign: int) -> list[FrozenTrial]:
    """Like `best_trials`. `sign`: 1 if higher values are better, -1 if lower values are."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))


def latest_attempt(earlier: Sequence[FrozenTrial], params: Point) -> int | None:
    """Returns the id of the latest of a slot's earlier trials with these parameters; None if there is none."""
    return next((id_of(trial) for trial in reversed(earlier) if trial.params == params), None)


def deaths(earlier: Sequence[FrozenTrial]) -> int:
    """Returns how many of a slot's earlier trials ended because their process died."""
    return sum(trial.user_attrs.get("outcome") == "died" for trial in earlier)
