"""Statistics: means over seeds with confidence intervals, and tests of the difference between two runs or groups.

A difference counts as distinguishable if its test is significant at 5 % and its 95 % interval excludes 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
_ROUNDING = 1e-12  # scores that are closer than this differ by floating-point rounding alone
_RESAMPLES = 10_000
_EXCHANGES = 999


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval. A single value has none, nor have values that are all equal."""

    mean: float
    ci95: tuple[float, float] | None

    def within(self, bounds: tuple[float, float]) -> "Estimate":
        """Returns the estimate with what its interval has beyond the values that are possible cut off."""
        if self.ci95 is None:
            return self
        low, high = self.ci95
        return Estimate(self.mean, (max(low, min(bounds[0], self.mean)), min(high, max(bounds[1], self.mean))))

    @property
    def is_clear_of_zero(self) -> bool:
        """Whether there is an interval and it excludes 0."""
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


@dataclass(frozen=True)
class Comparison:
    """A difference (first - second) with its 95 % interval and the two-sided p-value of no difference."""

    difference: float
    ci95: tuple[float, float]
    p_value: float

    def is_distinguishable(self, p_value: float) -> bool:
        """Returns whether interval and p-value agree that it is not 0. `p_value`: its own, or the corrected one."""
        return p_value < LEVEL and not self.ci95[0] <= 0 <= self.ci95[1]


def estimate(values: Sequence[float], *, overlap: float = 0.0) -> Estimate:
    """Returns Student's t interval (Student 1908) of the mean of independent values, such as one score per seed.

    `overlap`: of the folds of a cross-validation, which share training images, `overlap_of_folds`.
    Values that are all equal would have an interval of no width. That says only that they are too few, or too coarse,
    to show how much the next one may differ.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) < _ROUNDING:
        return Estimate(mean, None)
    error = math.sqrt(_variance_of_mean(values, overlap))
    margin = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * error)
    return Estimate(mean, (mean - margin, mean + margin))


def overlap_of_folds(folds: int) -> float:
    """Returns n_val / n_train of a cross-validation, for the functions here that take an `overlap`.

    Its scores vary less than independent ones would, because any two folds share most of their training images. So the
    variance of their mean is not s² / K, but s² (1 / K + n_val / n_train): Nadeau and Bengio (2003), Inference for the
    generalization error, Machine Learning 52(3). Each of K folds validates on 1 / K of the images and trains on the
    rest, so the ratio is 1 / (K - 1).
    """
    return 1 / (folds - 1)


def _variance_of_mean(values: Sequence[float] | NDArray[np.float64], overlap: float) -> float:
    """Returns 0 for a single value, which has no spread."""
    return float(np.var(values, ddof=1)) * (1 / len(values) + overlap) if len(values) > 1 else 0.0


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Returns Student's t interval of the mean of first - second, for paired values such as scores of the same seeds.

    The two are distinguishable if the interval excludes 0.
    """
    return estimate([one - other for one, other in zip(first, second, strict=True)])


def paired_t_test(
    first: Sequence[float], second: Sequence[float], level: float = LEVEL, *, overlap: float = 0.0
) -> Comparison:
    """Runs Student's paired t-test on two or more pairs of values, such as scores of the same seeds.

    The interval has the confidence 1 - `level`. Student (1908), The probable error of a mean, Biometrika 6(1). With an
    `overlap` (`overlap_of_folds`) it is Nadeau and Bengio's corrected test.
    """
    variance = _variance_of_mean(np.subtract(first, second), overlap)
    return _student(first, second, variance, len(first) - 1, level)


def welch_t_test(
    first: Sequence[float], second: Sequence[float], *, overlaps: tuple[float, float] = (0.0, 0.0)
) -> Comparison:
    """Runs Welch's t-test on two independent samples of two or more values each; their variances may differ.

    Welch (1947), The generalization of "Student's" problem when several different population variances are involved,
    Biometrika 34(1-2). `overlaps`: of samples that are the folds of a cross-validation (`overlap_of_folds`).
    """
    one, other = (_variance_of_mean(each, overlap) for each, overlap in zip((first, second), overlaps, strict=True))
    by_freedom = one**2 / (len(first) - 1) + other**2 / (len(second) - 1)
    return _student(first, second, one + other, (one + other) ** 2 / by_freedom if by_freedom else 1.0)


def _student(
    first: Sequence[float], second: Sequence[float], variance: float, freedom: float, level: float = LEVEL
) -> Comparison:
    """Returns the difference of the means with Student's t interval and p-value. `variance`: of that difference.

    If it is 0, no value varies: that is too few seeds to tell.
    """
    difference, error = float(np.mean(first) - np.mean(second)), math.sqrt(variance)
    if error <= _ROUNDING:
        return Comparison(difference, (difference, difference), 1.0)
    margin = float(stats.t.ppf(1 - level / 2, freedom)) * error
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return Comparison(difference, (difference - margin, difference + margin), p_value)


def wilson_interval(hits: int, images: int) -> tuple[float, float]:
    """Returns the 95 % interval of the share of `images`, 1 or more, that are hits.

    Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22(158). Unlike the usual
    normal interval, it stays between 0 and 1, and has a width even if all images are hits, or none.
    """
    interval = stats.binomtest(hits, images).proportion_ci(1 - LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def compare_on_images(first_only: int, second_only: int, images: int) -> Comparison:
    """Compares two accuracies on the same images: McNemar's exact p-value, and a paired bootstrap interval.

    `first_only`: how many of the `images` only the first labels correctly; `second_only`: only the second.
    """
    return Comparison(
        (first_only - second_only) / images,
        paired_bootstrap_interval(first_only, second_only, images),
        mcnemar_p_value(first_only, second_only),
    )


def compare_by_resampling(
    first_ND: NDArray[np.float64], second_ND: NDArray[np.float64], score: Callable[[NDArray[np.float64]], float]
) -> Comparison:
    """Compares any metric of two runs on the same N images: a randomization test, and a bootstrap interval.

    `score` gives the metric's value from the means over images of D numbers for each image. If the two runs were alike,
    it would change nothing if they exchanged their answers to some images: Noreen (1989), Computer-intensive methods
    for testing hypotheses; for F1 Yeh (2000), COLING. The interval is Efron's (1979) percentile interval. Both draw 999
    times with a fixed seed, so no p-value is below 0.001.
    """
    images, draw = len(first_ND), np.random.default_rng(0)
    first_D, second_D, swap_ND = first_ND.mean(axis=0), second_ND.mean(axis=0), second_ND - first_ND

    def exchanged() -> float:
        moved_D = (draw.random(images) < 0.5) @ swap_ND / images
        return score(first_D + moved_D) - score(second_D - moved_D)

    found = score(first_D) - score(second_D)
    as_far = sum(abs(exchanged()) >= abs(found) - _ROUNDING for _ in range(_EXCHANGES))
    both_N2D, of_first = np.hstack([first_ND, second_ND]), len(first_D)
    interval = _interval(both_N2D, lambda means: score(means[:of_first]) - score(means[of_first:]), draw)
    return Comparison(found, interval, float((1 + as_far) / (1 + _EXCHANGES)))


def bootstrap_interval(values_ND: NDArray[Any], score: Callable[[NDArray[np.float64]], float]) -> tuple[float, float]:
    """Returns Efron's 95 % percentile interval of `score`, a value from the means over N images of D numbers for each.

    The images are drawn 999 times with a fixed seed.
    """
    return _interval(values_ND, score, np.random.default_rng(0))


def _interval(
    values_ND: NDArray[Any], score: Callable[[NDArray[np.float64]], float], draw: np.random.Generator
) -> tuple[float, float]:
    images = len(values_ND)

    def resampled() -> float:
        share_N = np.bincount(draw.integers(images, size=images), minlength=images) / images
        return score(share_N @ values_ND)

    low, high = np.quantile([resampled() for _ in range(_EXCHANGES)], [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Runs the exact two-sided McNemar test: if only one is right, are both equally likely to be the right one?

    McNemar (1947), Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12(2); as a comparison of classifiers Dietterich (1998), Neural Computation 10(7). It is a binomial
    test of the discordant images with probability 1/2; if there are none, the p-value is 1.
    """
    discordant = first_only + second_only
    return float(stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0


def paired_bootstrap_interval(first_only: int, second_only: int, images: int) -> tuple[float, float]:
    """Returns a 95 % percentile interval of the difference of two accuracies, by resampling images with both answers.

    Efron (1979), Bootstrap methods: another look at the jackknife, Annals of Statistics 7(1). Only two counts of
    a resample matter: the images that only the first, and that only the second labels correctly. So these counts are
    drawn, from a multinomial distribution with a fixed seed. One image is added to each count, as in Bonett and Price
    (2012), Adjusted Wald confidence interval for a difference of binomial proportions based on paired data, Journal of
    Educational and Behavioral Statistics 37(4). Without the two images, the interval is too short if few images are
    discordant (with two in 144 it covers 76 %; with the added images, 99 %), and has no length if none is.
    """
    drawn = images + 2
    shares = np.array([first_only + 1, second_only + 1, images - first_only - second_only]) / drawn
    counts = np.random.default_rng(0).multinomial(drawn, shares, size=_RESAMPLES)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for several tests: the chance of any false alarm stays at the level of one test.

    Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6(2).
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def holm_levels(p_values: Sequence[float]) -> list[float]:
    """Returns the level at which Holm's method decides each test: that of its step, or of the step where it stops.

    Of m p-values, the level of the smallest is 5 % / m, that of the next 5 % / (m - 1), and so on. Holm's method stops
    at the first p-value that is not below its level: this one and all larger ones stay undecided. An interval of
    1 - that level excludes 0 exactly if the corrected p-value is below 5 %. It is never narrower than the ordinary 95 %
    interval, so it covers the true difference at least as often. All intervals together do not: no informative set of
    intervals that cover together goes with Holm's method (Strassburger and Bretz 2008, Compatible simultaneous lower
    confidence bounds for the Holm procedure and other Bonferroni-based closed tests, Statistics in Medicine 27(24)).
    """
    decided = sum(p_value < LEVEL for p_value in holm(p_values))
    levels = [LEVEL] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        levels[index] = LEVEL / (len(p_values) - min(rank, decided))
    return levels
