"""The charts of a sweep's page: their scales, and where lines run. `templates/sweep.html` draws them.

All read the result's JSON document (`SweepResult.as_dict`), so that what is drawn is what `--json` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

from experiments.comparison.curves import Curve, of_epochs
from experiments.comparison.curves import curves as over_seeds
from experiments.pages import coordinates
from experiments.pages.coordinates import Axis, Line
from experiments.pages.scales import AnyScale, Categories, Chart, Point, Scale
from sweeps.strategy.space import describe

Document = Mapping[str, Any]

OWN = "the recipe's own settings"
_MOST_LINES = 6  # configurations in one chart of curves: as many as there are colours


@dataclass(frozen=True)
class History(Chart):
    """Each trial's value, and the best so far."""

    best: list[Point]


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
    rows = [(_named(row), row) for row in document["finalists"]]
    return [*rows, (OWN, document["baseline"])] if document["baseline"] else rows


def arm_of(row: Mapping[str, Any]) -> str:
    """Returns the arm of a trial or a finalist, and the repeat if it is not the first; nothing without a question."""
    arm: str = row.get("arm", "")
    return f"{arm}, repeat {row['repeat'] + 1}" if row.get("repeat") else arm


def _named(row: Mapping[str, Any]) -> str:
    """Returns a finalist's params, after its arm if they do not begin with it."""
    params, arm = describe(row["params"]), arm_of(row)
    return params if not arm or f"{params} ".startswith(f"{arm} ") else f"{arm}: {params}".rstrip(": ")


def forest(document: Document) -> Scale:
    """Returns the scale of the finalists' scores, means and intervals."""
    rows = [row for _, row in configurations(document)]
    numbers = [value for row in rows for value in row["values"] if value is not None]
    numbers += [end for row in rows for end in row["ci95"] or ()]
    return Scale.around(numbers)


@dataclass(frozen=True)
class Question:
    """The scales of a question's arms and of its pairs, and the curves of the expected best; None if there are none."""

    arms: Scale
    pairs: Scale
    expected: tuple[Chart, list[Curve]] | None


def question(document: Document) -> Question | None:
    """Returns the charts of the answer to a sweep's question; None if it has none."""
    asked = document.get("question")
    if asked is None:
        return None
    of_arms = [value for arm in asked["arms"] for value in [*arm["values"], *(arm["ci95"] or ())] if value is not None]
    of_pairs = [value for pair in asked["pairs"] for value in [*pair["differences"], *(pair["ci95"] or ())]]
    return Question(Scale.around(of_arms), Scale.around([0.0, *of_pairs]), _expected_best(asked))


def _expected_best(asked: Mapping[str, Any]) -> tuple[Chart, list[Curve]] | None:
    shown = {arm["value"]: arm["expected_best"] for arm in asked["arms"][:_MOST_LINES] if arm["expected_best"]}
    if not shown:
        return None
    points = [point for curve in shown.values() for point in curve]
    most = max(point["trials"] for point in points)
    ends = [end for point in points for end in point["range95"]]
    chart = Chart(Scale(0.8, most + 0.2, whole=True), Scale.robust([*(point["mean"] for point in points), *ends]))

    def line(curve: Sequence[Mapping[str, Any]], values: Sequence[float]) -> list[Point]:
        return [(chart.x.share(p["trials"]), chart.y.share(value)) for p, value in zip(curve, values, strict=True)]

    return chart, [
        Curve(
            name,
            line(curve, [point["mean"] for point in curve]),
            line(curve, [point["range95"][0] for point in curve]),
            line(curve, [point["range95"][1] for point in curve]),
        )
        for name, curve in shown.items()
    ]


def history(document: Document) -> History | None:
    """Returns the chart of values over trials; None if no trial has completed."""
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    if not complete:
        return None
    better = max if document["direction"] == "maximize" else min
    best = list(accumulate((trial["value"] for trial in complete), better))
    x = Scale(-0.5, len(document["trials"]) - 0.5, whole=True)
    y = Scale.robust([trial["value"] for trial in complete])
    points = [(x.share(trial["number"]), y.share(value)) for trial, value in zip(complete, best, strict=True)]
    steps = [(later[0], earlier[1]) for earlier, later in pairwise(points)]
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
    return [*found, Axis(document["metric"], Scale.robust(scores))] if found and len(scores) > 1 else []


def lines(document: Document, shown: Sequence[Axis]) -> list[Line]:
    """Returns the completed trials' lines."""
    trials = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    rows = {trial["number"]: {**trial["params"], document["metric"]: trial["value"]} for trial in trials}
    return coordinates.lines(rows, shown, 1 if document["direction"] == "maximize" else -1)


def curves(document: Document) -> tuple[Chart, list[Curve]] | None:
    """Returns the learning curves of the first finalists and the recipe's own settings; None if there are none."""
    rows = configurations(document)
    shown = [*rows[: _MOST_LINES - 1], *rows[_MOST_LINES - 1 :][-1:]]
    return over_seeds({name: row["curves"] for name, row in shown})


def trial_curves(document: Document) -> tuple[Chart, list[tuple[Mapping[str, Any], list[Point]]]] | None:
    """Returns the learning curves of all trials; None if no trial has reported an epoch."""
    trials = [trial for trial in document["trials"] if trial["curve"]]
    chart = of_epochs(point for trial in trials for point in trial["curve"])
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


def _scale_of(field: Mapping[str, Any], values: Sequence[Any]) -> AnyScale:
    """Returns the field's whole range, not only what was tried, so that an empty part is seen."""
    if "choices" in field:
        return Categories(tuple(field["choices"]))
    return Scale.around([field["low"], field["high"], *values], log=field["log"])
