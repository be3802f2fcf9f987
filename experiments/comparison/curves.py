"""Learning curves of runs, or of configurations over several seeds: the mean, with its interval as a band."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.comparison.statistics import Estimate, estimate
from experiments.pages.scales import Chart, Point, Scale

Epochs = Sequence[tuple[int, float]]  # (epoch, value)


@dataclass(frozen=True)
class Curve:
    """The mean after each epoch that all seeds reached. `low` and `high` bound the band; empty for a single seed."""

    name: str
    points: list[Point]
    low: list[Point]
    high: list[Point]


def curves(
    seeds: Mapping[str, Sequence[Epochs]], overlaps: Mapping[str, float] = {}
) -> tuple[Chart, list[Curve]] | None:
    """Returns the chart, and a curve for each name from the epochs of its seeds; None if there is nothing to draw.

    `overlaps`: of names whose "seeds" are the folds of a cross-validation (`overlap_of_folds`).
    """
    means = {name: mean_curve(each, overlap=overlaps.get(name, 0.0)) for name, each in seeds.items()}
    chart = of_epochs((epoch, each.mean) for found in means.values() for epoch, each in found.items())
    return None if chart is None else (chart, [_curve(name, found, chart) for name, found in means.items() if found])


def of_epochs(points: Iterable[tuple[int, float]]) -> Chart | None:
    """Returns the scales for values over epochs; None if there are none that are finite."""
    known = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    if not known:
        return None
    epochs = [epoch for epoch, _ in known]
    return Chart(Scale(min(epochs) - 0.2, max(epochs) + 0.2, whole=True), Scale.robust([value for _, value in known]))


def mean_curve(seeds: Sequence[Epochs], *, overlap: float = 0.0) -> dict[int, Estimate]:
    """Returns the mean with its interval after each epoch that all seeds reached. `overlap`: as in `curves`."""
    by_epoch: dict[int, list[float]] = {}
    for epoch, value in (point for curve in seeds for point in curve):
        by_epoch.setdefault(epoch, []).append(value)
    complete = max(map(len, by_epoch.values()), default=0)
    found = {
        epoch: estimate(values, overlap=overlap)
        for epoch, values in sorted(by_epoch.items())
        if len(values) == complete
    }
    return {epoch: each for epoch, each in found.items() if math.isfinite(each.mean)}


def _curve(name: str, means: Mapping[int, Estimate], chart: Chart) -> Curve:
    def line(values: Iterable[float]) -> list[Point]:
        return [(chart.x.share(epoch), chart.y.share(value)) for epoch, value in zip(means, values, strict=True)]

    ends = [each.ci95 or (each.mean, each.mean) for each in means.values()]
    has_band = any(low < high for low, high in ends)
    low, high = ([line(end) for end in zip(*ends, strict=True)]) if has_band else ([], [])
    return Curve(name, line(each.mean for each in means.values()), low, high)
