"""Decides when a sweep has searched enough, and which slot is the next open one until then."""

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from lightning_modules.config import section

Trials = Annotated[int, Field(ge=1, le=10**6, examples=[20])]


@section("budget")
class BudgetConfig:
    """How long a sweep searches, all its starts together: until it reaches the first of the given limits.

    A trial counts if it completed, was pruned, or failed because of itself. A running trial is never cut short.
    """

    trials: Trials | None = None
    """Trials that count; 20 if no limit is given."""

    hours: Annotated[float, Field(gt=0, le=10**6, examples=[1.5])] | None = None
    """Hours of clock time during which at least one trial ran."""

    no_improvement: Trials | None = None
    """This many counted trials in a row without a new best value."""

    @property
    def target(self) -> int | None:
        """The total number of trials that must count; None if only time or lack of improvement ends the sweep."""
        return 20 if self.trials is self.hours is self.no_improvement is None else self.trials


def open_slot(trials: Sequence[FrozenTrial], budget: BudgetConfig, sign: int, now: datetime) -> int | None:
    """Returns the lowest slot without a counted or running trial, or None if the budget is used up.

    `trials` are all trials of the study, in order. `sign` is 1 if higher values are better, -1 if lower values are.
    """
    if budget.hours is not None and time_spent(trials, now) >= timedelta(hours=budget.hours):
        return None
    if budget.no_improvement is not None and _without_improvement(trials, sign) >= budget.no_improvement:
        return None
    taken = {trial.user_attrs.get("slot") for trial in trials if counts(trial) or trial.state == TrialState.RUNNING}
    slot = next(slot for slot in itertools.count() if slot not in taken)
    return slot if budget.target is None or slot < budget.target else None


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial counts and so fills its slot: it completed, was pruned, or failed because of itself."""
    if trial.state == TrialState.FAIL:
        return bool(trial.user_attrs.get("outcome") == "failed")
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def time_spent(trials: Sequence[FrozenTrial], now: datetime) -> timedelta:
    """Returns how long at least one trial was running. Ignores trials whose own end is unknown."""
    spent, until = timedelta(), datetime.min
    timed = [trial for trial in trials if trial.datetime_start and "settled_by_another" not in trial.user_attrs]
    for trial in sorted(timed, key=lambda trial: trial.datetime_start or now):
        assert trial.datetime_start is not None
        start, end = max(trial.datetime_start, until), trial.datetime_complete or now
        if end > start:
            spent, until = spent + (end - start), end
    return spent


def _without_improvement(trials: Sequence[FrozenTrial], sign: int) -> int:
    """Returns the number of counted trials after the one with the best value."""
    best, since = -math.inf, 0
    for trial in filter(counts, trials):
        since += 1
        if trial.state == TrialState.COMPLETE and trial.value is not None and sign * trial.value > best:
            best, since = sign * trial.value, 0
    return since
