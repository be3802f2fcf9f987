"""All pairs of several arms, compared by seed, with Holm's correction and intervals that agree with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from experiments.comparison.statistics import LEVEL, Comparison, holm, holm_levels, paired_t_test


@dataclass(frozen=True)
class Pair:
    """Two arms: first minus second. The interval of `found` has the confidence `confidence`, 95 % or more."""

    first: int
    second: int
    differences: list[float]  # by seed
    found: Comparison  # its p-value is not corrected
    confidence: float
    p_value: float  # Holm's, for all pairs together

    @property
    def distinguishable(self) -> bool:
        return self.found.is_distinguishable(self.p_value)

    @property
    def spread(self) -> float:
        """The standard deviation of a paired difference; 0 for a single seed."""
        return float(np.std(self.differences, ddof=1)) if len(self.differences) > 1 else 0.0

    @property
    def has_interval(self) -> bool:
        return self.found.ci95[0] < self.found.ci95[1]


def all_pairs(values: Sequence[Sequence[float]]) -> list[Pair]:
    """Compares all pairs of arms by Student's paired t-test. `values`: of each arm, by seed, all of them finite.

    The chance of any false claim is at most 5 % for all pairs together. Each interval has the confidence of the step of
    Holm's method that decided its pair, at least 95 %, so it excludes 0 exactly if the pair is distinguishable.
    """
    places = list(combinations(range(len(values)), 2))
    found = [paired_t_test(values[one], values[other]) for one, other in places]
    p_values = [each.p_value for each in found]
    rows = zip(places, found, holm(p_values), holm_levels(p_values), strict=True)
    return [_pair(place, each, values, p_value, level) for place, each, p_value, level in rows]


def _pair(
    place: tuple[int, int], found: Comparison, values: Sequence[Sequence[float]], p_value: float, level: float
) -> Pair:
    first, second = (values[arm] for arm in place)
    if level < LEVEL:
        found = paired_t_test(first, second, level)
    differences = [one - other for one, other in zip(first, second, strict=True)]
    return Pair(*place, differences, found, 1 - level, p_value)
