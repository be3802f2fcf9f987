"""When a sweep has searched enough, and which slot is open until then."""

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from lightning_modules.config import section

Trials = Annotated[int, Field(ge=1, examples=[20])]


@section("budget")
class BudgetConfig:
    """How long a sweep searches, over all its starts: until the first of the given limits is reached.

    A trial counts that completed, was pruned, or failed by its own doing. One that runs is never cut short.
    """

    trials: Trials | None = None  # trials that count; 20 where no limit is given
    hours: Annotated[float, Field(gt=0, examples=[1.5])] | None = None  # of the clock, while at least one trial ran
    no_improvement: Trials | None = None  # so many trials that count, one after another, none better than all before

    @property
    def target(self) -> int | None:
        """How many trials shall count in total; None where only time or the lack of progress ends the sweep."""
        return 20 if self.trials is self.hours is self.no_improvement is None else self.trials


def open_slot(trials: Sequence[FrozenTrial], budget: BudgetConfig, sign: int, now: datetime) -> int | None:
    """The lowest slot that no trial fills or holds; None once the budget is spent.

    `trials` are all of the study's, in order; `sign` is 1 where higher values are better, -1 where lower ones are.
    """
    if budget.hours is not None and time_spent(trials, now) >= timedelta(hours=budget.hours):
        return None
    if budget.no_improvement is not None and _without_improvement(trials, sign) >= budget.no_improvement:
        return None
    taken = {trial.user_attrs.get("slot") for trial in trials if counts(trial) or trial.state == TrialState.RUNNING}
    slot = next(slot for slot in itertools.count() if slot not in taken)
    return slot if budget.target is None or slot < budget.target else None


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial fills its slot: it completed, was pruned, or failed by its own doing."""
    if trial.state == TrialState.FAIL:
        return bool(trial.user_attrs.get("outcome") == "failed")
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def time_spent(trials: Sequence[FrozenTrial], now: datetime) -> timedelta:
    """For how long at least one of the trials ran: of those that run now, and of those whose own end is known."""
    spent, until = timedelta(), datetime.min
    timed = [trial for trial in trials if trial.datetime_start and "settled_by_another" not in trial.user_attrs]
    for trial in sorted(timed, key=lambda trial: trial.datetime_start or now):
        assert trial.datetime_start is not None
        start, end = max(trial.datetime_start, until), trial.datetime_complete or now
        if end > start:
            spent, until = spent + (end - start), end
    return spent


def _without_improvement(trials: Sequence[FrozenTrial], sign: int) -> int:
    """How many trials that count have come since the best value so far."""
    best, since = -math.inf, 0
    for trial in filter(counts, trials):
        since += 1
        if trial.state == TrialState.COMPLETE and trial.value is not None and sign * trial.value > best:
            best, since = sign * trial.value, 0
    return since
