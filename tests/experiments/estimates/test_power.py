"""How many seeds a difference takes, against published tables, and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.estimates.power import detectable_difference, power, seeds_to_show


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_seeds_of_small_medium_and_large_effects(effect: float, seeds: int) -> None:
    """Of a two-sided paired t-test at 5 % with a power of 80 %: as G*Power and R's power.t.test give them."""
    assert seeds_to_show(effect * 0.01, 0.01) == seeds
    assert seeds_to_show(-effect * 0.01, 0.01) == seeds


def test_more_than_a_thousand_seeds_and_no_difference_have_no_number() -> None:
    assert seeds_to_show(0.05, 1.0) is None
    assert seeds_to_show(0.0, 1.0) is None
    assert seeds_to_show(0.1, 0.0) is None
    assert seeds_to_show(100.0, 1.0) == 2


def test_more_arms_take_more_seeds_and_show_less() -> None:
    assert (seeds_to_show(0.5, 1.0) or 0) < (seeds_to_show(0.5, 1.0, arms=4) or 0)
    assert detectable_difference(1.0, 5) < detectable_difference(1.0, 5, arms=3)


@pytest.mark.parametrize("seeds", [2, 3, 5, 34, 500])
@pytest.mark.parametrize("arms", [2, 4])
def test_the_detectable_difference_is_shown_in_80_of_100(seeds: int, arms: int) -> None:
    difference = detectable_difference(0.02, seeds, arms)
    level = 0.05 if arms == 2 else 0.05 / 6
    assert power(difference / 0.02, seeds, level) == pytest.approx(0.8, abs=1e-6)
    pairs = np.random.default_rng(0).normal(difference, 0.02, size=(20_000, seeds))
    claimed = stats.ttest_1samp(pairs, 0, axis=1).pvalue < level
    assert claimed.mean() == pytest.approx(0.8, abs=0.01)


def test_one_seed_shows_nothing() -> None:
    assert detectable_difference(1.0, 1) == math.inf
