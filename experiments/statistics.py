"""Is it real: means over seeds with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval; one value alone has none."""

    mean: float
    ci95: tuple[float, float] | None

    @property
    def is_clear_of_zero(self) -> bool:
        """Whether there is an interval, and 0 is not in it."""
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


def estimate(values: Sequence[float]) -> Estimate:
    """Student's t interval (Student 1908) of the mean of independent values, such as one score a seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    margin = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, (mean - margin, mean + margin))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Student's t interval of the mean difference of paired values, such as scores of the same seeds, first - second.

    The two are distinguishable where the interval does not hold 0.
    """
    return estimate([one - other for one, other in zip(first, second, strict=True)])
