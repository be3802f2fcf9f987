"""How long trials take, measured on those that have ended, and so how long the open slots will take."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from optuna.trial import FrozenTrial, TrialState

from sweeps.strategy.budget import counts


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a trial takes: `full` if nothing ends it early, `usual` with the share of those that end early."""

    full: float  # the median of the trials that completed
    usual: float  # the mean over all that count: a completed one takes the median, any other what it took

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial]) -> Self | None:
        """Returns the pace of these trials; None if none has completed. Ignores trials whose own end is unknown."""
        completed: list[float] = []
        ended_early: list[float] = []
        for trial in filter(counts, trials):
            if trial.duration is not None and "settled_by_another" not in trial.user_attrs:
                taken = completed if trial.state == TrialState.COMPLETE else ended_early
                taken.append(trial.duration.total_seconds())
        if not completed:
            return None
        full = statistics.median(completed)
        return cls(full=full, usual=(full * len(completed) + sum(ended_early)) / len(completed + ended_early))


def seconds_left(trials: Sequence[FrozenTrial], slots: int, each: float, *, at_a_time: int, now: datetime) -> float:
    """Returns how long the open ones of `slots` slots will take, if a trial takes `each` seconds.

    `trials` are all trials of the study, `at_a_time` run side by side. What running trials have done is left out.
    """
    open_slots = max(0, slots - sum(map(counts, trials)))
    starts = [trial.datetime_start for trial in trials if trial.state == TrialState.RUNNING and trial.datetime_start]
    done = sum(min(each, max(0.0, (now - start).total_seconds())) for start in starts[:open_slots])
    return (each * open_slots - done) / max(1, min(at_a_time, open_slots))
