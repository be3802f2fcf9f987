"""The expected best of a search, against all subsets of its trials."""

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from math import ceil, isfinite, nan

import numpy as np
import pytest

from experiments.estimates.expected_best import expected_best

GRID = [0.91, 0.35, 0.88, 0.91, 0.10, 0.97, 0.62, 0.88]  # of two fields, four by two; some values are equal


def bests(drawn: Iterable[Sequence[float]], sign: int) -> list[float]:
    """The best score of every draw that has one."""
    known = [[score for score in scores if isfinite(score)] for scores in drawn]
    return [sign * max(sign * score for score in scores) for scores in known if scores]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scores", [GRID, [0.2, nan, 0.7, nan, 0.5], [0.5], [nan, 0.5]])
def test_it_is_the_mean_over_all_subsets(scores: list[float], sign: int) -> None:
    found = expected_best(scores, sign)
    assert [point.trials for point in found] == list(range(1, len(scores) + 1))
    for point in found:
        of_all = bests(combinations(scores, point.trials), sign)
        assert point.mean == pytest.approx(np.mean(of_all), abs=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scores", [GRID[:5], [0.2, nan, 0.7, nan, 0.5], [0.5], [nan, 0.5]])
def test_the_range_has_the_quantiles_of_all_draws_with_replacement(scores: list[float], sign: int) -> None:
    for point in expected_best(scores, sign):
        of_all = sorted(bests(product(scores, repeat=point.trials), sign), key=lambda best: sign * best)
        ends = [of_all[max(0, ceil(share * len(of_all)) - 1)] for share in (0.025, 0.975)]
        assert point.range95 == (min(ends), max(ends))


def test_the_range_leaves_out_a_fortieth_at_either_end() -> None:
    """Of 40 trials with the scores 1 to 40."""
    one, two, *_, last = expected_best([float(score) for score in range(1, 41)], 1)
    assert one.range95 == (1, 39)  # one draw is 1 in a fortieth of all cases
    assert two.mean == pytest.approx(2 / 3 * 41)  # the maximum of k of 1 to n: k / (k + 1) · (n + 1)
    assert two.range95 == (7, 40)  # both are at most 6 in 36 / 1600, at most 7 in 49 / 1600, at most 39 in 1521 / 1600
    assert last.mean == pytest.approx(40)
    assert last.range95 == (37, 40)  # (36 / 40)^40 = 0.015, (37 / 40)^40 = 0.044


def test_lower_is_better_mirrors_it() -> None:
    mirrored = expected_best([-score for score in GRID], -1)
    for point, other in zip(expected_best(GRID, 1), mirrored, strict=True):
        assert (-point.mean, (-point.range95[1], -point.range95[0])) == (pytest.approx(other.mean), other.range95)


def test_it_has_no_bias_unlike_draws_with_replacement() -> None:
    """Over many searches of ten normal scores, the mean of the estimate is the known expected maximum of five."""
    draw = np.random.default_rng(0).standard_normal((3000, 10))
    found = np.mean([expected_best(scores.tolist(), 1)[4].mean for scores in draw])
    assert found == pytest.approx(1.16296, abs=0.03)  # Teichroew (1956), Annals of Mathematical Statistics 27(2)


def test_no_score_has_no_curve_and_many_trials_have_a_hundred_points() -> None:
    assert expected_best([], 1) == expected_best([nan, nan], 1) == []
    many = expected_best(np.linspace(0, 1, 3000).tolist(), 1)
    assert len(many) <= 100
    assert (many[0].trials, many[-1].trials) == (1, 3000)
    for point in many:  # the maximum of k of n evenly spaced scores
        assert point.mean == pytest.approx((point.trials / (point.trials + 1) * 3001 - 1) / 2999, abs=1e-9)
