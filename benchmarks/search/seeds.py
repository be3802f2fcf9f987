"""By how much shared seeds lower the noise of a difference between two settings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.record import Task, Trials, trained_row
from benchmarks.search.table import Recording, Row


@dataclass(frozen=True)
class NoiseRatio:
    """Variance of a difference with shared seeds, divided by that with independent ones; its 95 % interval.

    Pooled over all pairs of settings. The interval comes from a bootstrap over the seeds.
    """

    ratio: float
    low: float
    high: float
    deviation: float  # of a difference with independent seeds, as the root of the mean variance


def noise_ratio(values_KS: NDArray[np.float64]) -> NoiseRatio:
    """Compares the two from the scores of K settings, each trained with the same S seeds.

    With shared seeds, a difference is that of two scores of one seed. With independent seeds its variance is the sum of
    the two settings' variances. So the same trainings show both.
    """
    seeds = values_KS.shape[1]
    drawn = np.random.default_rng(0).integers(seeds, size=(5_000, seeds))
    ratios = [_ratio(values_KS[:, chosen]) for chosen in drawn if len(np.unique(chosen)) > 2]
    low, high = np.nanpercentile(ratios, (2.5, 97.5))
    independent = _variances(values_KS)[1]
    return NoiseRatio(_ratio(values_KS), float(low), float(high), float(np.sqrt(independent)))


def _ratio(values_KS: NDArray[np.float64]) -> float:
    shared, independent = _variances(values_KS)
    return shared / independent if independent else np.nan


def _variances(values_KS: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the mean variance of a difference over all pairs: with shared and with independent seeds."""
    pairs = list(itertools.combinations(values_KS, 2))
    shared = np.mean([np.var(first - second, ddof=1) for first, second in pairs])
    independent = np.mean([np.var(first, ddof=1) + np.var(second, ddof=1) for first, second in pairs])
    return float(shared), float(independent)


def train_settings(
    task: Task, table: Sequence[Row], path: Path, settings: int, seeds: int, scratch: Path
) -> NDArray[np.float64]:
    """Trains settings of the better half of a table, each with the same seeds; returns the scores (K, S).

    What `path` has already is not trained again.
    """
    firsts = sorted((row for row in table if row.design == "sobol"), key=lambda row: -row.accuracy[-1])
    better = firsts[: len(firsts) // 2]
    chosen = [better[index] for index in np.linspace(0, len(better) - 1, settings).round().astype(int)]
    trained, recording = Trials(task, scratch), Recording(path)
    found = {(row.point, row.seed): row.accuracy[-1] for row in recording.rows}
    for seed, row in itertools.product(range(seeds), chosen):
        if (row.point, seed) not in found:
            added = trained_row(trained, len(recording.rows), "seeds", row.point, row.place, seed)
            recording.add(added)
            found[row.point, seed] = added.accuracy[-1]
            print(f"{len(found)}/{seeds * settings}: {added.accuracy[-1]:.4f}, {added.seconds:.1f} s", flush=True)
    return np.array([[found[row.point, seed] for seed in range(seeds)] for row in chosen])
