"""A comparison as one self-contained HTML page, and as parts for a notebook."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from experiments.comparison.curves import curves
from experiments.comparison.text import (
    cell,
    field,
    group,
    group_columns,
    labels,
    robustness_row,
    robustness_verdicts,
    score,
    short_cell,
    verdicts,
)
from experiments.notebook import heading, link, paragraph, table
from experiments.pages.coordinates import Axis, for_script, lines
from experiments.pages.page import render
from experiments.pages.scales import Categories, Chart, Point, Scale
from lightning_modules.metrics import sign_of
from lightning_modules.showable import showable

_TEMPLATE = Path(__file__).parent / "templates" / "comparison.html"
_MOST_COLUMNS = 12  # up to this many runs are columns; more are rows
_COLOURS = 6
_MOST_AXES = 10  # fields in the parallel coordinates
_MOST_CELLS = 30  # classes in the table of confusions

Document = Mapping[str, Any]
Chips = Mapping[str, tuple[str, int]]  # letter and colour, by a run's id or a group's name


def title_of(document: Document) -> str:
    names = [run["name"] for run in document["runs"]]
    return f"{names[0]} against {names[1]}" if len(names) == 2 else f"comparison of {len(names)} runs"


def page(document: Document, images: Sequence[str], to_serve: str) -> str:
    """Returns the page. `images`: those of `answers.disagreements`, as data URLs; `to_serve`: starts the dashboard."""
    chips = _chips(document)
    answers = document["answers"]
    axes = _axes(document)
    drawn = lines(_settings(document), axes, sign_of(document["metric"]) or 1) if axes else []
    found, *more = verdicts(document) or ["Nothing could be tested."]
    return render(
        _TEMPLATE,
        for_script(axes, drawn),
        axes=axes,
        lines=drawn,
        title=title_of(document),
        metric=document["metric"],
        verdict=_with_chips(found, document, chips),
        sentences=[
            _with_chips(sentence, document, chips)
            for sentence in [*more, *robustness_verdicts(document), *document["notes"]]
        ],
        runs=document["runs"],
        chips=chips,
        scores={place["run_id"]: f"{place['score']:.4f}" for place in document["ranking"]},
        are_columns=len(document["runs"]) <= _MOST_COLUMNS,
        differences=[row for row in document["differences"] if row["kind"] != "code"],
        code=[(row["field"], _diff(row, chips)) for row in document["differences"] if row["kind"] == "code"],
        many=_many(document),
        metrics=document["metrics"],
        tests=_tests(document),
        groups=[each for each in document["groups"] if each["name"] in _groups(document)],
        group_scale=_group_scale(document),
        charts_of_epochs=_curves(document, chips),
        answers=answers,
        recall_scale=answers and _recall_scale(answers),
        confusion=answers and answers["confusion"] if answers and len(answers["classes"]) <= _MOST_CELLS else None,
        largest=max((abs(n) for row in ((answers and answers["confusion"]) or []) for n in row), default=0),
        images=images,
        robustness=document["robustness"],
        robust_scale=_robust_scale(document["robustness"]),
        robustness_row=lambda row: robustness_row(document, row),
        sweeps=document["sweeps"],
        sweep_scale=_sweep_scale(document["sweeps"]),
        sweep_chart=_best_so_far(document["sweeps"]),
        field=field,
        cell=cell,
        short_cell=short_cell,
        score=score,
        to_serve=to_serve,
        dashboard_url=document["dashboard_url"],
    )


def _chips(document: Document) -> Chips:
    """Returns letter and colour of each run, A being the first that was named; runs of a group have the group's."""
    groups = _groups(document)
    ids = [*groups, *(run["run_id"] for run in document["runs"])] if groups else [r["run_id"] for r in document["runs"]]
    chips = {each: (_letters(number), number % _COLOURS) for number, each in enumerate(ids)}
    return chips | {run_id: chips[name] for name, run_ids in groups.items() for run_id in run_ids}


def _letters(number: int) -> str:
    """Returns A for 0, B for 1, and AA after Z."""
    more, last = divmod(number, len(ascii_uppercase))
    return (_letters(more - 1) if more else "") + ascii_uppercase[last]


def _with_chips(sentence: str, document: Document, chips: Chips) -> str:
    """Puts letters for the names of runs and groups, which stand beside them on the page."""
    named = {**labels(document), **{name: name for name in _groups(document)}}
    for each, label in sorted(named.items(), key=lambda item: -len(item[1])):
        sentence = sentence.replace(label, chips[each][0])
    return sentence


def _groups(document: Document) -> dict[str, list[str]]:
    """Returns the groups that are compared with each other, with their runs; none if runs are."""
    tested = {each for test in document["tests"] for each in test["between"]}
    return {each["name"]: each["run_ids"] for each in document["groups"] if each["name"] in tested or not tested}


def _diff(row: Mapping[str, Any], chips: Chips) -> list[tuple[str, str]]:
    """Returns the lines of a code difference, with ' ', '-' or '+': the first version against each other."""
    versions: dict[str | None, list[str]] = {}
    for run_id, text in row["values"].items():
        versions.setdefault(text, []).append(chips[run_id][0])
    first, *others = versions.items()
    lines: list[tuple[str, str]] = []
    for text, letters in others:
        lines.append((" ", f"{', '.join(first[1])} → {', '.join(letters)}"))
        before, after = ((each or "no such file").splitlines() for each in (first[0], text))
        lines += [(line[0], line[2:]) for line in difflib.ndiff(before, after) if line[0] in " -+"]
    return lines


def _tests(document: Document) -> list[tuple[str, Scale, list[dict[str, Any]]]]:
    """Returns the tests by metric, each with the scale of its differences."""
    chips = _chips(document)
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for test in [*document["tests"], *document["other_tests"]]:
        sign = sign_of(test["metric"])
        better = "" if not test["distinguishable"] else "better" if sign * test["difference"] > 0 else "worse"
        between = [chips[each][0] if each in chips else each for each in test["between"]]
        row = {**test, "between": between, "better": better}
        by_metric.setdefault(test["metric"], []).append(row)
    return [
        (metric, Scale.around([0.0, *(end for test in tests for end in test["ci95"])]), tests)
        for metric, tests in by_metric.items()
    ]


def _sweep_scale(sweeps: Sequence[Mapping[str, Any]]) -> Scale:
    numbers = [value for each in sweeps for value in [*each["values"], *(each["ci95"] or ())] if value is not None]
    return Scale.around(numbers)


def _best_so_far(sweeps: Sequence[Mapping[str, Any]]) -> tuple[Chart, list[list[Point]]] | None:
    """Returns the chart of the best value after each trial, a line for each sweep."""
    points = [tuple(point) for each in sweeps for point in each["best_so_far"]]
    if not points:
        return None
    last = max(number for number, _ in points)
    chart = Chart(Scale(-0.5, last + 0.5, whole=True), Scale.robust([value for _, value in points]))
    return chart, [[(chart.x.share(n), chart.y.share(v)) for n, v in each["best_so_far"]] for each in sweeps]


def _group_scale(document: Document) -> Scale:
    numbers = [value for each in document["groups"] for value in each["values"]]
    return Scale.around([*numbers, *(end for each in document["groups"] for end in each["ci95"] or ())])


def _curves(document: Document, chips: Chips) -> list[tuple[str, Any, Any, dict[str, Any]]]:
    """Returns the charts over epochs: title, scales, curves, and each curve's colour."""
    named = labels(document)
    groups = {f"{chips[name][0]}: {name}": run_ids for name, run_ids in _groups(document).items()} or {
        f"{chips[run_id][0]}: {named[run_id]}": [run_id] for run_id in document["curves"]
    }
    colours = {name: chips[run_ids[0]][1] for name, run_ids in groups.items()}
    overlaps = {
        f"{chips[each['name']][0]}: {each['name']}": each.get("overlap", 0.0)
        for each in document["groups"]
        if each["name"] in chips
    }
    metric = document["metric"].partition("/")[2] or document["metric"]
    found = []
    for name in dict.fromkeys([f"val/{metric}", "val/loss", "train/loss", document["metric"]]):
        seeds = {
            group: [_epochs(document["curves"][run_id], name) for run_id in run_ids if run_id in document["curves"]]
            for group, run_ids in groups.items()
        }
        if (drawn := curves(seeds, overlaps)) is not None:
            found.append((name, *drawn, colours))
    return found


def _epochs(scores: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(each["epoch"], each[name]) for each in scores if each.get(name) is not None]


def _recall_scale(answers: Mapping[str, Any]) -> Scale:
    known = [value for recall in answers["recall"] for value in recall if value is not None]
    return Scale.around(known)


def _robust_scale(robustness: Mapping[str, Any] | None) -> Scale:
    return Scale.around([0.0, *(end for row in (robustness["rows"] if robustness else []) for end in row["ci95"])])


def _settings(document: Document) -> dict[str, dict[str, Any]]:
    """Returns the differing params of each run that has a score, numbers as numbers, and the score."""
    rows = [row for row in document["differences"] if row["kind"] == "param" and row["field"] != "seed"][:_MOST_AXES]
    found: dict[str, dict[str, Any]] = {}
    for place in document["ranking"]:
        texts = {row["field"]: row["values"].get(place["run_id"]) for row in rows}
        known = {path: _number(text) for path, text in texts.items() if text not in (None, "null")}
        found[place["run_id"]] = {**known, document["metric"]: place["score"]}
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _axes(document: Document) -> list[Axis]:
    """Returns the axes of the parallel coordinates; none for few runs, or if no param differs."""
    settings = list(_settings(document).values())
    found = []
    for path in dict.fromkeys(path for row in settings for path in row):
        values = [row[path] for row in settings if path in row]
        if len({str(row.get(path)) for row in settings}) > 1:
            is_number = all(isinstance(value, float) for value in values)
            kinds = tuple(sorted({str(value) for value in values}))
            found.append(Axis(path, Scale.fitting(values) if is_number else Categories(kinds)))
    is_last = bool(found) and found[-1].path == document["metric"]
    return found if len(settings) > 2 and len(found) > 1 and is_last else []


def _many(document: Document) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Returns the columns of a table of runs, and its rows by run, the best first."""
    named, chips = labels(document), _chips(document)
    scores = {place["run_id"]: f"{place['score']:.4f}" for place in document["ranking"]}
    shown = [row for row in document["differences"] if row["kind"] == "param"]
    ids = [*scores, *(run_id for run_id in named if run_id not in scores)]
    rows = {
        run_id: (chips[run_id][0], named[run_id], scores.get(run_id, ""), *(short_cell(row, run_id) for row in shown))
        for run_id in ids
    }
    return ["", "run", document["metric"], *(row["field"] for row in shown)], rows


# In a notebook.


def parts_of(document: Document, to_serve: str = "workbench ui") -> list[str]:
    """Returns the parts. `to_serve`: the command that starts the dashboard."""
    groups = [group(found) for found in document["groups"]]
    return [
        *(
            paragraph(sentence)
            for sentence in [*verdicts(document), *robustness_verdicts(document), *document["notes"]]
        ),
        link(f"MLflow's own comparison of these runs (start it with: {to_serve})", document["dashboard_url"]),
        *([heading("Groups"), table(group_columns(document), groups)] if groups else []),
        *(_runs_as_columns(document) if len(document["runs"]) <= _MOST_COLUMNS else _runs_as_rows(document)),
    ]


def _runs_as_columns(document: Document) -> list[str]:
    named = labels(document)
    differences = [(field(row), *(cell(row, run_id) for run_id in named)) for row in document["differences"]]
    metrics = [(row["name"], *(score(row, run_id) for run_id in named)) for row in document["metrics"]]
    columns = ("", *named.values())
    return [heading("What differs"), table(columns, differences), heading("Metrics"), table(columns, metrics)]


def _runs_as_rows(document: Document) -> list[str]:
    shown = [row for row in document["differences"] if row["kind"] == "param"]
    also = ", ".join(field(row) for row in document["differences"] if row not in shown)
    columns, rows = _many(document)
    more = paragraph(f"Other differences: {showable(also)}.") if also else ""
    return [heading("Runs"), more, table(columns[1:], [row[1:] for row in rows.values()])]
