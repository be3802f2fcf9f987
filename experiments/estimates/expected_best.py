"""The expected best score of a search, as a function of the number of trials, with a band.

Dodge, Gururangan, Card, Schwartz and Smith (2019), Show your work: improved reporting of experimental results, EMNLP.
Their estimator draws the k trials with replacement, and so is too low; Tang, Lee, Xin, Liu, Yu and Lin (2020), Showing
your work doesn't always work, ACL, derive the one without bias, which draws without replacement. It is used here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from experiments.comparison.statistics import LEVEL

_RESAMPLES = 1000
_MOST_POINTS = 100

# Shapes: N trials, K numbers of trials, R resamples.


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best of `trials` trials, with its 95 % band."""

    trials: int
    mean: float
    ci95: tuple[float, float]


def expected_best(scores: Sequence[float], sign: int) -> list[ExpectedBest]:
    """Returns the expected best score of 1, 2, … of the N trials, over all their subsets; empty if no trial has one.

    `sign`: 1 if higher scores are better, -1 if lower ones are. A failed trial's score is NaN: it is worse than all
    others, and subsets of failed trials alone, which have no best, are left out. More than 100 trials have 100 points.

    It is what a search with fewer trials would find if its trials were alike, as in random search. With a sampler that
    learns from earlier trials, late trials are better, so its curve is too high for few trials.

    The band is Efron's percentile interval over 1,000 resamples of the trials with a fixed seed. Near N trials it is
    too narrow, as trials that were not run may be better than the best of all.
    """
    merits_N = sign * np.asarray(scores, dtype=float)
    merits_N = np.where(np.isfinite(merits_N), merits_N, -np.inf)
    if not np.isfinite(merits_N).any():
        return []
    trials_K = _numbers(len(merits_N))
    means_K = _means(merits_N[None], trials_K)[0]
    picked_RN = np.random.default_rng(0).integers(len(merits_N), size=(_RESAMPLES, len(merits_N)))
    resampled_RK = _means(merits_N[picked_RN], trials_K)
    ends_2K = sign * np.nanquantile(resampled_RK, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    low_K, high_K = ends_2K if sign > 0 else ends_2K[::-1]
    return [
        ExpectedBest(int(trials), float(sign * mean), (float(low), float(high)))
        for trials, mean, low, high in zip(trials_K, means_K, low_K, high_K, strict=True)
    ]


def _numbers(most: int) -> NDArray[np.int64]:
    """Returns 1, 2, … up to `most`; at equal ratios if that are too many."""
    if most <= _MOST_POINTS:
        return np.arange(1, most + 1)
    return np.unique(np.geomspace(1, most, _MOST_POINTS).round().astype(np.int64))


def _means(merits_RN: NDArray[np.float64], trials_K: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the mean of the highest over all subsets of each size that have one, (R, K); NaN if none has.

    In ascending order, the i-th of n is the highest in C(i - 1, k - 1) of the C(n, k) subsets of k.
    """
    sorted_RN = np.sort(merits_RN, axis=1)
    size = sorted_RN.shape[1]
    places_N = np.arange(1, size + 1)
    weights_NK = np.exp(_log_choose(places_N[:, None] - 1, trials_K - 1) - _log_choose(size, trials_K))
    has_score_RN = np.isfinite(sorted_RN)
    known_RK = has_score_RN @ weights_NK  # the share of subsets that have a score
    with np.errstate(invalid="ignore"):
        means_RK: NDArray[np.float64] = np.where(has_score_RN, sorted_RN, 0.0) @ weights_NK / known_RK
    return means_RK


def _log_choose(of: NDArray[np.int64] | int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the logarithm of the number of subsets; -inf where more are chosen than there are."""
    rest = np.asarray(of) - chosen
    found: NDArray[np.float64] = np.where(
        rest >= 0, gammaln(np.asarray(of) + 1.0) - gammaln(chosen + 1.0) - gammaln(np.maximum(rest, 0) + 1.0), -math.inf
    )
    return found
