"""When a sweep ends, on trials written by hand."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from lightning_modules import InputError
from sweeps.strategy.budget import BudgetConfig, open_slot, time_spent

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

DAY = datetime(2026, 1, 1)


def ended(slot: int, outcome: str, value: float | None = None) -> FrozenTrial:
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(outcome, TrialState.FAIL)
    return create_trial(state=state, value=value, user_attrs={"slot": slot, "outcome": outcome})


def timed(start: float, end: float | None, **user_attrs: Any) -> FrozenTrial:
    """A trial from one hour of the day to another; it runs where there is no end."""
    trial = create_trial(state=TrialState.RUNNING if end is None else TrialState.PRUNED, user_attrs=user_attrs)
    trial.datetime_start = DAY + timedelta(hours=start)
    trial.datetime_complete = None if end is None else DAY + timedelta(hours=end)
    return trial


def test_hours_are_those_during_which_a_trial_ran() -> None:
    trials = [
        timed(10, 11),
        timed(10.5, 11.5),  # beside the first: half an hour more
        timed(10.75, 11.25),  # all of it beside others
        timed(13, 14),  # after a pause
        timed(13.5, 40, settled_by_another=True),  # it died unseen
        timed(15, None),
    ]
    now = DAY + timedelta(hours=15.25)
    assert time_spent(trials, now) == timedelta(hours=1 + 0.5 + 1 + 0.25)
    assert open_slot(trials, BudgetConfig(hours=2.75), 1, now) is None
    assert open_slot(trials, BudgetConfig(hours=2.8), 1, now) == 0


@pytest.mark.parametrize(
    ("sign", "values", "limit", "is_over"),
    [
        (1, [0.5, 0.6, 0.6, 0.4], 2, True),  # an equal value is no better one
        (1, [0.5, 0.6, 0.6, 0.4], 3, False),
        (1, [0.5, 0.4, 0.3, 0.6], 2, False),
        (-1, [0.5, 0.6, 0.6], 2, True),
        (-1, [0.5, 0.4, 0.3], 1, False),
        (1, [None, None], 2, True),  # nothing completes
        (1, [0.5, None, None], 2, True),  # pruned and failed trials count
    ],
)
def test_no_improvement_counts_from_the_best_value_on(
    sign: int, values: list[float | None], limit: int, is_over: bool
) -> None:
    trials = [ended(slot, "pruned" if value is None else "finished", value) for slot, value in enumerate(values)]
    slot = open_slot(trials, BudgetConfig(no_improvement=limit), sign, DAY)
    assert slot == (None if is_over else len(values))


def test_a_trial_that_does_not_count_is_no_lack_of_improvement() -> None:
    trials = [ended(0, "finished", 0.5), ended(1, "died"), ended(1, "interrupted")]
    assert open_slot(trials, BudgetConfig(no_improvement=1), 1, DAY) == 1


def test_whichever_limit_comes_first_ends_the_sweep() -> None:
    trials = [ended(0, "finished", 0.5), ended(1, "failed")]
    assert open_slot(trials, BudgetConfig(trials=2, no_improvement=5), 1, DAY) is None
    assert open_slot(trials, BudgetConfig(trials=5, no_improvement=1), 1, DAY) is None
    assert open_slot(trials, BudgetConfig(trials=3, no_improvement=2), 1, DAY) == 2


def test_without_any_limit_there_are_twenty_trials() -> None:
    assert (BudgetConfig().target, BudgetConfig(hours=1).target) == (20, None)


def test_a_sweep_that_stopped_improving_goes_on_with_more_patience(untrained: "Untrained") -> None:
    recipe = "space: {optimizer.lr: {low: 0.1, high: 0.9}}\nsampler: {kind: random}"
    first = untrained.run(untrained.sweep(recipe, **{"budget.no_improvement": 3}))
    more = untrained.run(untrained.sweep(recipe, **{"budget.no_improvement": 5}))
    assert (len(first), len(more)) == (4, 2)  # the first trial's 0.5 is never beaten


@pytest.mark.parametrize(("name", "value"), [("hours", 0.0), ("no_improvement", 0), ("trials", 0)])
def test_a_budget_of_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^budget\.{name}: "):
        BudgetConfig(**{name: value})  # type: ignore[arg-type]
