"""Power: how many seeds show a difference, and which difference so many seeds can show.

Both hold for Student's paired t-test, by the noncentral t distribution: Cohen (1988), Statistical power analysis for
the behavioral sciences. "Show" means that the test claims the difference in 80 of 100 repetitions.
"""

import math

import numpy as np
from scipy import optimize, stats

from experiments.comparison.statistics import LEVEL

POWER = 0.8
MOST_SEEDS = 1000  # more are not counted
_QUANTILES = (np.arange(1000) + 0.5) / 1000


def power(effect: float, seeds: int, level: float = LEVEL) -> float:
    """Returns how often a two-sided paired t-test over `seeds`, 2 or more, claims the difference that there is.

    `effect`: the true difference, divided by the standard deviation of a paired difference.
    """
    freedom = seeds - 1
    limit = stats.t.ppf(1 - level / 2, freedom)
    # Over the quantiles of the observed spread; scipy's noncentral t is NaN where the effect is large.
    spreads = np.sqrt(stats.chi2.ppf(_QUANTILES, freedom) / freedom)
    return float(stats.norm.cdf(abs(effect) * math.sqrt(seeds) - limit * spreads).mean())


def seeds_to_show(difference: float, spread: float, arms: int = 2) -> int | None:
    """Returns the least number of seeds that shows a true `difference` of two of `arms`; None: more than 1,000.

    `spread`: the standard deviation of a paired difference. Both are usually the observed ones, so that the number is
    as uncertain as they are: over few seeds, half of it or twice it may be right.
    """
    level = _level(arms)
    if difference == 0 or spread == 0 or power(difference / spread, MOST_SEEDS, level) < POWER:
        return None
    few, enough = 1, MOST_SEEDS  # the power grows with the seeds
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if power(difference / spread, middle, level) >= POWER else (middle, enough)
    return enough


def detectable_difference(spread: float, seeds: int, arms: int = 2) -> float:
    """Returns the smallest true difference of two of `arms` that `seeds` show; infinite for one seed.

    `spread`: the standard deviation of a paired difference, which is that of an arm's scores times √2 if the arms have
    nothing in common but their seeds' numbers.
    """
    if seeds < 2:
        return math.inf
    level = _level(arms)
    most = 2.0
    while power(most, seeds, level) < POWER:
        most *= 2
    effect = optimize.brentq(lambda effect: power(effect, seeds, level) - POWER, 0.0, most)
    return float(effect) * spread


def _level(arms: int) -> float:
    """Returns the level of Holm's first step among all pairs of arms, which is the strictest."""
    return LEVEL / max(1, math.comb(arms, 2))
