"""How long trials take and how long a sweep still runs, worked out by hand."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.strategy.pace import Pace, seconds_left

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

NOW = datetime(2026, 1, 1, 12)
SPACE = "space: {optimizer.lr: {low: 0.1, high: 0.9}}\nsampler: {kind: random}\n"


def took(seconds: float, outcome: str = "finished", **user_attrs: Any) -> FrozenTrial:
    """A trial that has ended after so many seconds."""
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(outcome, TrialState.FAIL)
    value = 0.5 if outcome == "finished" else None
    trial = create_trial(state=state, value=value, user_attrs={"outcome": outcome, **user_attrs})
    trial.datetime_start = NOW - timedelta(hours=1)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    return trial


def runs_for(seconds: float) -> FrozenTrial:
    """A trial that runs since so many seconds."""
    trial = create_trial(state=TrialState.RUNNING)
    trial.datetime_start = NOW - timedelta(seconds=seconds)
    return trial


def test_a_trial_takes_the_median_of_the_completed_ones_and_pruned_and_failed_ones_what_they_took() -> None:
    trials = [took(100), took(20, "pruned"), took(500), took(120), took(4, "failed")]
    assert Pace.of(trials) == Pace(full=120, usual=(3 * 120 + 20 + 4) / 5)


def test_trials_that_do_not_count_or_whose_end_is_unknown_say_nothing() -> None:
    lost = took(3000, settled_by_another=True)
    assert Pace.of([took(60), took(9, "died"), took(9, "interrupted"), lost, runs_for(5)]) == Pace(full=60, usual=60)
    assert Pace.of([took(9, "pruned"), lost]) is None  # nothing to go by yet


@pytest.mark.parametrize(
    ("running", "at_a_time", "left"),
    [
        ([], 1, 7 * 60),  # 10 slots, 3 are filled
        ([], 2, 7 * 30),
        ([runs_for(20), runs_for(40)], 2, (7 * 60 - 20 - 40) / 2),
        ([runs_for(100), runs_for(20)], 2, (7 * 60 - 60 - 20) / 2),  # one takes longer than usual
        ([runs_for(-9)], 1, 7 * 60),  # started by a host whose clock is fast
        ([], 100, 60),  # all at once
    ],
)
def test_open_slots_take_a_trials_time_each_less_what_running_trials_have_done(
    running: list[FrozenTrial], at_a_time: int, left: float
) -> None:
    trials = [took(60), took(60), took(60, "pruned"), took(60, "died"), *running]
    assert seconds_left(trials, 10, 60, at_a_time=at_a_time, now=NOW) == pytest.approx(left)


def test_nothing_is_left_once_all_slots_are_filled() -> None:
    assert seconds_left([took(60)] * 3, 2, 60, at_a_time=2, now=NOW) == 0


def test_a_search_is_followed_by_its_finalists(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{trials: 10}}\nfinalists: {{top: 3, seeds: 2, baseline: true}}")
    search = untrained.search(sweep)
    assert search.time_left([], at_a_time=2, now=NOW) is None
    assert search.time_left([took(20, "pruned")], at_a_time=2, now=NOW) is None
    # 6 of 10 trials are open, (3 · 60 s + 20 s) / 4 = 50 s each; then 4 configurations with 2 seeds take 60 s each.
    trials = [took(60), took(20, "pruned"), took(60), took(60)]
    assert search.time_left(trials, at_a_time=2, now=NOW) == timedelta(seconds=6 * 50 / 2 + 8 * 60 / 2)


def test_hours_bound_the_search_and_not_the_finalists(untrained: "Untrained") -> None:
    trials = [took(600), took(1200)]  # side by side: 20 minutes are spent
    for budget, minutes in (("hours: 1", 40), ("hours: 1, trials: 1000", 40), ("hours: 1, trials: 4", 30)):
        sweep = untrained.sweep(f"{SPACE}budget: {{{budget}}}", name=budget.replace(":", "").replace(",", ""))
        left = untrained.search(sweep).time_left(trials, at_a_time=1, now=NOW)
        assert left == timedelta(minutes=minutes) + timedelta(minutes=15)  # one finalist, the median


def test_without_a_target_and_hours_nobody_knows(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}budget: {{no_improvement: 5}}")
    assert untrained.search(sweep).time_left([took(60)], at_a_time=1, now=NOW) is None
