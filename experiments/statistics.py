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


def estimate(values: Sequence[float]) -> Estimate:
    """Student's t interval (Student 1908) of the mean of independent values, such as one score a seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    margin = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, (mean - margin, mean + margin))
