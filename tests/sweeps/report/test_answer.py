"""The answer to a sweep's question: its numbers, and a sentence for every case."""

import json
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from sweeps.report.answer import Answer, ArmScores, answer
from sweeps.report.answer_text import COVERS, amount, can_show

SEARCHED = [0.90, 0.97, 0.95, nan, 0.96]


def arm(value: str, values: list[float], searched: list[float] = SEARCHED, **more: Any) -> ArmScores:
    known: dict[str, Any] = {
        "value": value,
        "searched": searched,
        "values": values,
        "run_ids": [f"{value}{seed}" for seed in range(len(values))],
        "params": {"optimizer.lr": 0.003},
        "epochs": 50,
        "seconds": 100.0,
    }
    return ArmScores(**known | more)


def asked(*arms: ArmScores, sign: int = 1, metric: str = "val/accuracy", repeats: int = 1) -> Answer:
    found = answer(arms, field="optimizer.kind", sign=sign, metric=metric, repeats=repeats)
    json.dumps(found.as_dict(), allow_nan=False)  # JSON has no NaN
    return found


def around(mean: float, *steps: float) -> list[float]:
    return [round(mean + step, 6) for step in steps]


STEADY = around(0.98, 0.002, -0.002, 0, 0.001, -0.001)
LOWER = around(0.97, 0.002, -0.002, 0, 0.0, 0.0)  # 0.01 less, and the differences vary a little
CLOSE = around(0.98, -0.001, 0, -0.002, 0.001, -0.002)  # 0.0008 less, which varies by 0.0019


def test_numbers_are_those_worked_out_by_hand() -> None:
    found = asked(arm("sgd", LOWER), arm("adamw", STEADY))
    first, second = found.arms
    assert (first.value, second.value) == ("adamw", "sgd")  # the better mean first
    assert first.mean == pytest.approx(0.98)
    margin = 2.776445 * 0.00158114 / np.sqrt(5)  # Student's t of four degrees of freedom
    assert first.ci95 == pytest.approx((0.98 - margin, 0.98 + margin), abs=1e-8)
    assert (first.trials, first.failed, first.best_searched) == (5, 1, 0.97)
    assert first.run_ids == [f"adamw{seed}" for seed in range(5)]
    (pair,) = found.pairs
    assert pair.between == ("adamw", "sgd")
    assert pair.differences == pytest.approx([0.01, 0.01, 0.01, 0.011, 0.009])
    margin = 2.776445 * 0.000707107 / np.sqrt(5)
    assert pair.ci95 == pytest.approx((0.01 - margin, 0.01 + margin), abs=1e-8)
    assert (pair.confidence, pair.distinguishable) == (0.95, True)
    assert found.answer == "As tuned here, adamw is better than sgd by 0.9 to 1.1 points of validation accuracy."
    assert found.covers == COVERS["seed"]
    # Of one trial: the mean of those that did not fail.
    assert first.expected_best[0].mean == pytest.approx((0.90 + 0.97 + 0.95 + 0.96) / 4)
    assert first.expected_best[-1].mean == pytest.approx(0.97)


def test_lower_is_better_where_the_objective_says_so() -> None:
    found = asked(arm("sgd", LOWER), arm("adamw", STEADY), sign=-1, metric="val/loss")
    assert [each.value for each in found.arms] == ["sgd", "adamw"]
    assert found.pairs[0].difference == pytest.approx(-0.01)
    assert found.answer == "As tuned here, sgd is better than adamw by 0.0091 to 0.0109 of validation loss."
    assert found.arms[0].best_searched == 0.90
    assert found.arms[0].expected_best[-1].mean == pytest.approx(0.90)


def test_what_cannot_be_told_apart_needs_so_many_seeds() -> None:
    found = asked(arm("adam", STEADY), arm("sgd", CLOSE))
    (pair,) = found.pairs
    assert not pair.distinguishable
    # Effect 0.0008 / 0.00192: (1.96 + 0.84)² / 0.4159² = 45.4 seeds if the spread were known, and 2 more as it is not.
    assert pair.seeds_needed == 48
    assert found.sentences == [
        "5 trials an arm and 5 seeds cannot tell adam and sgd apart; "
        "about 48 seeds would, if the difference is 0.08 points of validation accuracy, as seen here."
    ]
    same = asked(arm("adam", STEADY), arm("sgd", around(0.98, -0.002, 0.002, 0, 0.001, -0.001)))
    assert same.answer == (
        "5 trials an arm and 5 seeds cannot tell adam and sgd apart: "
        "a difference as small as the one seen here takes more than 1,000 seeds."
    )


def test_of_three_arms_the_best_is_held_against_each() -> None:
    clear = asked(arm("a", STEADY), arm("b", LOWER), arm("c", around(0.95, 0.002, -0.002, 0, 0.002, -0.002)))
    assert clear.sentences == [
        "As tuned here, a is better than b by 0.9 to 1.1 and c by 2.9 to 3.1 points of validation accuracy."
    ]
    partly = asked(arm("a", STEADY), arm("b", CLOSE), arm("c", LOWER))
    assert partly.sentences[0] == "As tuned here, a is better than c by 0.9 to 1.1 points of validation accuracy."
    assert partly.sentences[1].startswith(
        "5 trials an arm and 5 seeds cannot tell a, which has the best mean, from b; "
    )
    none = asked(arm("a", STEADY), arm("b", CLOSE), arm("c", around(0.98, 0.001, -0.002, 0.001, 0, -0.001)))
    assert none.sentences[0].startswith("5 trials an arm and 5 seeds cannot tell a, c and b apart")
    assert len(none.sentences) == 1


def test_a_clear_pair_without_the_best_arm_is_told_too() -> None:
    wild = around(0.985, 0.04, -0.04, 0.03, -0.03, 0.0)
    found = asked(arm("wild", wild), arm("a", STEADY), arm("b", LOWER))
    assert "cannot tell wild, which has the best mean, from a or b" in found.sentences[0]
    assert found.sentences[1] == "As tuned here, a is better than b by 0.9 to 1.1 points of validation accuracy."


def test_of_many_arms_only_the_closest_is_named() -> None:
    lower = [arm(f"a{n}", around(0.97 - 0.01 * n, 0.002, -0.002, 0, 0, 0)) for n in range(4)]
    found = asked(arm("best", STEADY), *lower)
    assert found.answer == (
        "As tuned here, best is better than 4 others, of which the closest is a0 by 0.8 to 1.2 points of validation "
        "accuracy."
    )
    assert len(found.pairs) == 10
    assert {pair.between[0] for pair in found.pairs[:4]} == {"best"}


def test_one_seed_cannot_tell() -> None:
    found = asked(arm("adam", [0.98]), arm("sgd", [0.97]))
    assert found.answer == (
        "One seed cannot tell adam and sgd apart, since it shows no spread: set finalists.seeds to 5 or more."
    )
    (pair,) = found.pairs
    assert (pair.difference, pair.ci95, pair.p_value) == (pytest.approx(0.01), None, 1)
    assert found.arms[0].ci95 is None


def test_seeds_that_are_all_equal_cannot_tell() -> None:
    same = asked(arm("adam", [0.98, 0.97]), arm("sgd", [0.98, 0.97]))
    assert same.answer == "adam and sgd have the same score with each of 2 seeds."
    apart = asked(arm("adam", [0.98, 0.98]), arm("sgd", [0.97, 0.97]))
    assert apart.answer == (
        "adam and sgd differ by the same amount with each of 2 seeds: too few to show how much they vary."
    )


def test_an_arm_that_failed_with_a_seed_is_not_compared() -> None:
    found = asked(arm("adam", STEADY), arm("sgd", LOWER), arm("rmsprop", [0.99, nan, 0.99, 0.99, inf]))
    last = found.arms[-1]
    assert (last.value, last.mean, last.ci95, last.values) == ("rmsprop", None, None, [0.99, None, 0.99, 0.99, None])
    assert [pair.between for pair in found.pairs] == [("adam", "sgd")]
    assert found.sentences[1] == "rmsprop is not compared: its best configuration has no score with 2 of 5 seeds."


def test_an_arm_without_a_complete_trial_is_not_compared() -> None:
    bad = arm("bad", [], searched=[nan, nan], params={})
    found = asked(bad, arm("adam", STEADY))
    assert found.sentences == [
        "The question has no answer: only adam has a score for every seed.",
        "bad is not compared: none of its 2 trials completed.",
        "The arms did not get the same number of trials: adam 5 and bad 2.",
    ]
    assert (found.arms[1].expected_best, found.arms[1].best_searched, found.pairs) == ([], None, [])
    assert found.budget == ""
    neither = asked(bad, arm("early", [], searched=[], params={}))
    assert neither.sentences[0] == "The question has no answer: no arm has a score for every seed."
    assert "early is not compared: it has no trial." in neither.sentences


def test_it_is_said_if_the_answer_depends_on_the_budget() -> None:
    late = [0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.98]
    found = asked(arm("late", STEADY, late), arm("even", LOWER, [0.96] * 9 + [0.97]))
    # One trial of "late" is at most 0.98, so that its range ends above; of "even" at least 0.96.
    assert found.budget == "At no number of trials is the range of another arm wholly ahead of that of late."
    many = asked(arm("late", STEADY, [0.5] * 99 + [0.98]), arm("even", LOWER, [0.96] * 100))
    # The chance that two draws from a hundred trials hold a given one is 2 %, that three do 3 %.
    told = "It depends on the budget: in the search, with 1 to 2 trials an arm, even is ahead of late."
    assert many.budget == told == many.sentences[-1]
    alike = asked(arm("late", STEADY, [0.5] * 99 + [0.98]), arm("even", CLOSE, [0.96] * 100))
    assert alike.budget == "In the search, with 1 to 2 trials an arm, even is ahead of late."
    assert len(alike.sentences) == 1  # which of the two is better is not known, so nothing depends on the budget


def test_an_arm_that_led_the_search_to_its_end_does_not_show_that_the_budget_was_too_small() -> None:
    found = asked(arm("first", STEADY, [0.95] * 10), arm("second", LOWER, [0.96] * 10))
    assert len(found.sentences) == 1
    assert found.budget == "In the search, with 1 to 10 trials an arm, second is ahead of first."


def test_if_the_search_was_repeated_it_speaks_of_repeats() -> None:
    five = [score for _ in range(5) for score in SEARCHED]
    clear = asked(arm("a", STEADY, five), arm("b", LOWER, five), repeats=5)
    assert (clear.unit, clear.covers) == ("repeat", COVERS["repeat"])
    assert clear.answer == "a is better than b by 0.9 to 1.1 points of validation accuracy."
    assert [(each.trials, len(each.expected_best)) for each in clear.arms] == [(25, 5), (25, 5)]
    close = asked(arm("a", STEADY, five), arm("b", CLOSE, five), repeats=5)
    assert "5 trials an arm and 5 repeats cannot tell a and b apart; about 48 repeats would" in close.answer
    one = asked(arm("a", [0.98]), arm("b", [nan]), arm("c", [0.97]), repeats=2)
    assert "set question.repeats to 5 or more" in one.answer
    assert "b is not compared: its best configuration has no score with 1 of 1 repeat." in one.answer


def test_the_interval_of_an_arm_ends_where_no_value_can_be() -> None:
    found = asked(arm("a", [0.99, 1.0, 0.95]), arm("b", [0.9, 0.8, 0.7]))
    assert found.arms[0].ci95 is not None
    assert found.arms[0].ci95[1] == 1.0


@pytest.mark.parametrize(
    ("metric", "values", "text"),
    [
        ("val/accuracy", (0.0043, 0.0091), "0.4 to 0.9 points of validation accuracy"),
        ("val/accuracy", (-0.0091, -0.0043), "0.4 to 0.9 points of validation accuracy"),
        ("test/accuracy", (0.0002, 0.0091), "0.02 to 0.91 points of test accuracy"),
        ("val/macro_f1", (0.01234, 0.01236), "1.234 to 1.236 points of validation macro-F1"),
        ("val/loss", (0.012, 0.034), "0.012 to 0.034 of validation loss"),
        ("val/perplexity", (1.2, 34.0), "1.2 to 34.0 of val/perplexity"),
        ("val/accuracy", (0.002,), "0.2 points of validation accuracy"),
    ],
)
def test_a_difference_has_the_digits_that_it_needs(metric: str, values: tuple[float, ...], text: str) -> None:
    assert amount(metric, *values) == text


def test_before_the_start_it_is_said_what_the_seeds_can_show() -> None:
    """Of five seeds: 1.682 standard deviations of a paired difference."""
    assert can_show("val/accuracy", 0.005, 5, 2) == (
        "5 seeds can show a true difference of 0.8 points of validation accuracy or more (in 80 of 100 such questions)."
    )
    assert can_show("val/accuracy", 0.005, 1, 2) == "One seed cannot show any difference between arms."
    assert can_show("val/accuracy", 0.0, 5, 2) == ""
