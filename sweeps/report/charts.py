"""The charts of a sweep's page: their scales, and where lines run. `templates/sweep.html` draws them.

All read the result's JSON document (`SweepResult.as_dict`), so that what is drawn is what `--json` says.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

import numpy as np

from experiments.comparison.statistics import estimate
from experiments.pages.scales import AnyScale, Categories, Point, Scale, shade
from sweeps.strategy.space import describe

Document = Mapping[str, Any]

OWN = "the recipe's own settings"
_MOST_LINES = 6  # configurations in one chart of curves: as many as there are colours
_FAR = 3.0  # quartile ranges from the quartiles: values beyond that are drawn at the edge


@dataclass(frozen=True)
class Chart:
    """The two scales of a chart."""

    x: AnyScale
    y: AnyScale


@dataclass(frozen=True)
class History(Chart):
    """Each trial's value, and the best so far."""

    best: list[Point]


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel coordinates."""

    path: str
    scale: AnyScale

    def share(self, value: Any) -> float:
        """Returns where a value stands; a trial without one stands before the axis."""
        return -0.02 if value is None else self.scale.share(value)

    def for_script(self) -> dict[str, Any]:
        """What the script needs to name a place on the axis."""
        if isinstance(self.scale, Categories):
            return {"path": self.path, "choices": list(self.scale.values)}
        return {"path": self.path, "low": self.scale.low, "high": self.scale.high, "log": self.scale.log}


@dataclass(frozen=True)
class Line:
    """One trial's way through the parallel coordinates: a share of each axis, from the first to the last."""

    number: int
    shade: int
    shares: list[float]


@dataclass(frozen=True)
class Curve:
    """The mean score of a configuration after each epoch, with the 95 % interval over its seeds, if there are several."""

    name: str
    points: list[Point]
    low: list[Point]
    high: list[Point]


@dataclass(frozen=True)
class Bar:
    """A trial in the chart of workers."""

    trial: Mapping[str, Any]
    start: float
    end: float


@dataclass(frozen=True)
class Workers:
    """Each worker's trials over the time since the first one began."""

    scale: Scale
    unit: str
    lanes: dict[str, list[Bar]]


def configurations(document: Document) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the finalists, best mean first, then the recipe's own settings: the name and the row of each."""
    rows = [(describe(row["params"]), row) for row in document["finalists"]]
    return [*rows, (OWN, document["baseline"])] if document["baseline"] else rows


def forest(document: Document) -> Scale:
    """Returns the scale of the finalists' scores, means and intervals."""
    rows = [row for _, row in configurations(document)]
    numbers = [value for row in rows for value in row["values"] if value is not None]
    numbers += [end for row in rows for end in row["ci95"] or ()]
    return Scale.around(numbers)


def history(document: Document) -> History | None:
    """Returns the chart of values over trials; None if no trial has completed."""
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    if not complete:
        return None
    better = max if document["direction"] == "maximize" else min
    best = list(accumulate((trial["value"] for trial in complete), better))
    x = Scale(-0.5, len(document["trials"]) - 0.5, whole=True)
    y = _robust([trial["value"] for trial in complete])
    points = [(x.share(trial["number"]), y.share(value)) for trial, value in zip(complete, best, strict=True)]
    steps = [(later[0], earlier[1]) for earlier, later in zip(points, points[1:], strict=False)]
    line = [point for pair in zip(points, [*steps, (1.0, points[-1][1])], strict=True) for point in pair]
    return History(x, y, line)


def axes(document: Document) -> list[Axis]:
    """Returns the axes of the parallel coordinates: the searched fields that vary, then the objective."""
    found = []
    for field in document["space"]:
        values = [trial["params"].get(field["path"]) for trial in document["trials"]]
        if len(set(values)) > 1:
            found.append(Axis(field["path"], _scale_of(field, [value for value in values if value is not None])))
    scores = [trial["value"] for trial in document["trials"] if trial["state"] == "COMPLETE"]
    return [*found, Axis(document["metric"], _robust(scores))] if found and len(scores) > 1 else []


def lines(document: Document, shown: Sequence[Axis]) -> list[Line]:
    """Returns the completed trials' lines, the best last, so that it is drawn on top."""
    *fields, objective = shown
    trials = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    found = []
    for trial in sorted(trials, key=lambda trial: objective.share(trial["value"])):
        shares = [axis.share(trial["params"].get(axis.path)) for axis in fields]
        score = objective.share(trial["value"])
        goodness = score if document["direction"] == "maximize" else 1 - score
        found.append(Line(trial["number"], shade(goodness), [*shares, score]))
    return found if document["direction"] == "maximize" else found[::-1]


def curves(document: Document) -> tuple[Chart, list[Curve]] | None:
    """Returns the learning curves of the first finalists and the recipe's own settings; None if there are none."""
    rows = configurations(document)
    shown = [*rows[: _MOST_LINES - 1], *rows[_MOST_LINES - 1 :][-1:]]
    means: dict[str, dict[int, Any]] = {}
    for name, row in shown:
        by_epoch: dict[int, list[float]] = {}
        for epoch, value in (point for curve in row["curves"] for point in curve):
            by_epoch.setdefault(epoch, []).append(value)
        full = max(map(len, by_epoch.values()), default=0)
        found = {epoch: estimate(values) for epoch, values in sorted(by_epoch.items()) if len(values) == full}
        means[name] = {epoch: each for epoch, each in found.items() if math.isfinite(each.mean)}
    chart = _of_epochs((epoch, each.mean) for found in means.values() for epoch, each in found.items())
    return None if chart is None else (chart, [_curve(name, found, chart) for name, found in means.items() if found])


def _curve(name: str, found: Mapping[int, Any], chart: Chart) -> Curve:
    def line(value_of: Any) -> list[Point]:
        return [(chart.x.share(epoch), chart.y.share(value_of(each))) for epoch, each in found.items()]

    has_band = any(each.ci95 for each in found.values())
    low = line(lambda each: each.ci95[0] if each.ci95 else each.mean) if has_band else []
    high = line(lambda each: each.ci95[1] if each.ci95 else each.mean) if has_band else []
    return Curve(name, line(lambda each: each.mean), low, high)


def trial_curves(document: Document) -> tuple[Chart, list[tuple[Mapping[str, Any], list[Point]]]] | None:
    """Returns the learning curves of all trials; None if no trial has reported an epoch."""
    trials = [trial for trial in document["trials"] if trial["curve"]]
    chart = _of_epochs(point for trial in trials for point in trial["curve"])
    if chart is None:
        return None
    return chart, [(trial, [(chart.x.share(x), chart.y.share(y)) for x, y in trial["curve"]]) for trial in trials]


def importance(document: Document) -> Scale:
    """Returns the scale of shares."""
    return Scale(0, max([row["ci95"][1] for row in document["importance"]["fields"]], default=1.0))


def workers(document: Document) -> Workers | None:
    """Returns the chart of who did what when; None if no trial has an end that is known."""
    timed = [trial for trial in document["trials"] if trial["started"] and trial["seconds"] is not None]
    if not timed:
        return None
    starts = {trial["number"]: datetime.fromisoformat(trial["started"]).timestamp() for trial in timed}
    first = min(starts.values())
    ends = {trial["number"]: starts[trial["number"]] + trial["seconds"] for trial in timed}
    unit, length = ("minutes", 60.0) if max(ends.values()) - first < 2 * 3600 else ("hours", 3600.0)
    scale = Scale(0, max(max(ends.values()) - first, 1) / length)
    lanes: dict[str, list[Bar]] = {}
    for trial in timed:
        start, end = (scale.share((at[trial["number"]] - first) / length) for at in (starts, ends))
        lanes.setdefault(trial["worker"], []).append(Bar(trial, start, end))
    return Workers(scale, unit, lanes)


def _of_epochs(points: Iterable[tuple[int, float]]) -> Chart | None:
    known = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    if not known:
        return None
    last = max(epoch for epoch, _ in known)
    return Chart(Scale(min(epoch for epoch, _ in known) - 0.2, last + 0.2, whole=True), _robust([value for _, value in known]))


def _scale_of(field: Mapping[str, Any], values: Sequence[Any]) -> AnyScale:
    """Returns the field's whole range, not only what was tried, so that an empty part is seen."""
    if "choices" in field:
        return Categories(tuple(field["choices"]))
    return Scale.around([field["low"], field["high"], *values], log=field["log"])


def _robust(values: Sequence[float]) -> Scale:
    """Returns a scale of the values without those far from the others, such as trials that diverged."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = np.quantile(finite, [0.25, 0.75])
    far = _FAR * (high - low) or math.inf
    return Scale.around([value for value in finite if low - far <= value <= high + far])
