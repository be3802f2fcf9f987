"""Tests and intervals against published worked examples, hand-made ones, and simulation."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from experiments.comparison.statistics import (
    Estimate,
    compare_on_images,
    estimate,
    holm,
    holm_levels,
    mcnemar_p_value,
    overlap_of_folds,
    paired_bootstrap_interval,
    paired_difference,
    paired_t_test,
    welch_t_test,
)

# Hours of sleep gained by ten patients on two drugs: Student (1908), as in R's data set `sleep`.
SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_the_interval_of_a_mean() -> None:
    """Student's t of two degrees of freedom: 4.302653 standard errors of 0.01 / sqrt(3)."""
    found = estimate([0.97, 0.98, 0.99])
    assert found.mean == pytest.approx(0.98)
    assert found.ci95 == pytest.approx((0.98 - 0.0248414, 0.98 + 0.0248414), abs=5e-8)


@pytest.mark.parametrize("values", [[0.9792], [0.9792, 0.9792], [0.9792] * 3])
def test_one_value_and_equal_values_have_no_interval(values: list[float]) -> None:
    assert estimate(values).mean == pytest.approx(0.9792)
    assert estimate(values).ci95 is None


def test_differences_that_only_rounding_sets_apart_have_no_interval() -> None:
    """Each time one image of 144 more; as floating-point numbers the differences are not quite equal."""
    found = paired_difference([141 / 144, 140 / 144, 139 / 144], [140 / 144, 139 / 144, 138 / 144])
    assert found.mean == pytest.approx(1 / 144)
    assert found.ci95 is None
    assert not found.is_clear_of_zero


def test_mcnemar_of_two_culture_media() -> None:
    """Armitage and Berry (1994), Statistical methods in medical research, p. 127: 12 and 2 discordant, P = 0.0129."""
    assert mcnemar_p_value(12, 2) == mcnemar_p_value(2, 12) == pytest.approx(0.0129, abs=5e-5)


def test_mcnemar_counts_tails_of_a_fair_coin() -> None:
    assert mcnemar_p_value(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p_value(3, 3) == 1


def test_the_bootstrap_interval_of_approval_ratings() -> None:
    """Agresti (2002), Categorical data analysis, 10.1: 86 and 150 discordant of 1,600, -0.04 ± 1.96 × 0.0095."""
    low, high = paired_bootstrap_interval(86, 150, 1600)
    assert (low, high) == pytest.approx((-0.04 - 1.96 * 0.0095, -0.04 + 1.96 * 0.0095), abs=0.001)
    assert paired_bootstrap_interval(86, 150, 1600) == (low, high)


@pytest.mark.parametrize(("first_only", "second_only"), [(0.03, 0.02), (0.02, 0.02)])
def test_the_bootstrap_interval_covers_the_true_difference_95_times_in_100(
    first_only: float, second_only: float
) -> None:
    interval = cache(paired_bootstrap_interval)
    shares = [first_only, second_only, 1 - first_only - second_only]
    draws = np.random.default_rng(0).multinomial(1000, shares, size=2000)
    intervals = [interval(first, second, 1000) for first, second, _ in draws.tolist()]
    covered = np.mean([low <= first_only - second_only <= high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("images", [1, 144, 10_000])
def test_identical_predictions_are_not_distinguishable(images: int) -> None:
    same = compare_on_images(0, 0, images)
    assert (same.difference, same.p_value) == (0, 1)
    assert same.ci95[0] <= 0 <= same.ci95[1]
    assert not same.is_distinguishable(same.p_value)


def test_a_difference_is_distinguishable_only_if_its_corrected_p_value_is_too() -> None:
    found = compare_on_images(30, 10, 1000)
    assert found.difference == pytest.approx(0.02)
    assert found.is_distinguishable(found.p_value)
    assert not found.is_distinguishable(0.05)


def test_student_s_paired_test_of_the_sleep_data() -> None:
    """R, `t.test(Pair(first, second) ~ 1)`: p-value = 0.002833, -2.4598858 … -0.7001142."""
    found = paired_t_test(*SLEEP)
    assert found.difference == pytest.approx(-1.58)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.ci95 == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_welch_s_test_of_the_sleep_data() -> None:
    """R, `t.test(extra ~ group, data = sleep)`: df = 17.776, p-value = 0.07939, -3.3654832 … 0.2054832."""
    found = welch_t_test(*SLEEP)
    assert found.p_value == pytest.approx(0.07939, abs=5e-6)
    assert found.ci95 == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_folds_have_nadeau_and_bengio_s_variance() -> None:
    """Three folds: s² = 0.01, times 1/3 + 1/2; its root is 0.0912871, and t(0.975; 2) = 4.3026527."""
    found = estimate([0.8, 0.9, 1.0], overlap=overlap_of_folds(3))
    assert found.mean == pytest.approx(0.9)
    assert found.ci95 == pytest.approx((0.9 - 0.3927768, 0.9 + 0.3927768), abs=1e-6)
    alone = estimate([0.8, 0.9, 1.0])
    assert alone.ci95 == pytest.approx((0.9 - 0.2484138, 0.9 + 0.2484138), abs=1e-6)


def test_folds_of_two_are_compared_with_that_variance() -> None:
    """Differences 0.1, 0.2, 0.3: t = 0.2 / 0.0912871 = 2.19089; with 2 degrees p = 1 - t / sqrt(t² + 2) = 0.159876."""
    found = paired_t_test([0.9, 0.9, 0.9], [0.8, 0.7, 0.6], overlap=overlap_of_folds(3))
    assert found.p_value == pytest.approx(1 - 2.19089 / (2.19089**2 + 2) ** 0.5, abs=1e-5)
    assert found.ci95 == pytest.approx((0.2 - 0.3927768, 0.2 + 0.3927768), abs=1e-6)


def test_welch_s_test_takes_folds_on_either_side() -> None:
    """Variances of the means 0.01 × 5/6 and 0.01 × 1/3, so the error is their sum's root."""
    found = welch_t_test([0.8, 0.9, 1.0], [0.5, 0.6, 0.7], overlaps=(overlap_of_folds(3), 0.0))
    error = (0.01 * 7 / 6) ** 0.5
    freedom = (5 / 6 + 1 / 3) ** 2 / ((5 / 6) ** 2 / 2 + (1 / 3) ** 2 / 2)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.3 / error, freedom))
    assert welch_t_test([0.8, 0.9, 1.0], [0.5, 0.6, 0.7]).p_value < found.p_value


@pytest.mark.parametrize("test", [paired_t_test, welch_t_test])
def test_values_without_spread_tell_nothing(test: type) -> None:
    assert test([0.5, 0.5], [0.5, 0.5]).p_value == 1
    found = test([0.5, 0.5], [0.25, 0.25])
    assert (found.difference, found.p_value) == (0.25, 1)
    assert not found.is_distinguishable(found.p_value)


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_holms_levels_are_those_of_its_steps_and_of_the_one_where_it_stops() -> None:
    """Corrected, these are 0.03, 0.06, 0.06 and 0.02: two are significant, and the others stop at 5 % / 2."""
    assert holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert holm_levels([0.02]) == holm_levels([0.9]) == [0.05]
    assert holm_levels([0.6, 0.9]) == [0.025, 0.025]
    assert holm_levels([0.001, 0.001]) == [0.025, 0.05]
    assert holm_levels([]) == []


def test_an_interval_ends_where_no_value_can_be() -> None:
    found = estimate([0.99, 0.97, 0.8])
    assert found.ci95 is not None
    assert found.ci95[1] > 1
    assert found.within((0, 1)) == Estimate(found.mean, (found.ci95[0], 1))
    assert estimate([0.5]).within((0, 1)) == Estimate(0.5, None)
