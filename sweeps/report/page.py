"""A sweep's report as one self-contained HTML page, while the sweep runs and after it; and as parts for a notebook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.notebook import heading, paragraph, table
from experiments.pages.coordinates import for_script
from experiments.pages.page import render
from experiments.pages.scales import Chart
from sweeps.report import charts
from sweeps.report.answer_text import pair_verdict
from sweeps.report.leaderboard import as_text, ranked, sentences
from sweeps.strategy.space import describe

_TEMPLATE = Path(__file__).parent / "templates" / "sweep.html"
_COLOURS = 6

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    name: str
    is_number: bool = False


def page(document: Document) -> str:
    """Returns the page for a result (`SweepResult.as_dict`)."""
    configurations = charts.configurations(document)
    axes = charts.axes(document)
    lines = charts.lines(document, axes) if axes else []
    columns, rows = _table(document)
    return render(
        _TEMPLATE,
        for_script(axes, lines),
        sweep=document["sweep"],
        metric=document["metric"],
        trials=document["trials"],
        status=_status(document),
        verdict=sentences(document),
        facts=_facts(document),
        asked=document.get("question"),
        question=charts.question(document),
        arm_colours=_arm_colours(document),
        configurations=configurations,
        colours={name: "own" if name == charts.OWN else n % _COLOURS for n, (name, _) in enumerate(configurations)},
        own_mean=document["baseline"] and document["baseline"]["mean"],
        forest=charts.forest(document),
        history=charts.history(document),
        trial_curves=charts.trial_curves(document),
        curves=charts.curves(document),
        axes=axes,
        lines=lines,
        importance=document["importance"],
        importance_scale=charts.importance(document),
        audit=document["audit"],
        slices=[(Chart(axis.scale, axes[-1].scale), axis.path) for axis in axes[:-1]],
        columns=columns,
        rows=rows,
        workers=charts.workers(document),
        outcomes=_outcomes(document),
        commands=document["commands"],
        score=as_text,
        pair_verdict=pair_verdict,
        describe=describe,
        duration=_duration,
        value=value,
    )


def _arm_colours(document: Document) -> dict[str, int]:
    asked = document.get("question") or {"arms": []}
    return {arm["value"]: number % _COLOURS for number, arm in enumerate(asked["arms"])}


def _status(document: Document) -> str:
    """Says how far the sweep is, and what it took."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in _outcomes(document))
    total = f" of {document['target']}" if document["target"] else ""
    return f"{len(document['trials'])}{total} trials: {outcomes}."


def _outcomes(document: Document) -> list[tuple[str, int]]:
    outcomes = [trial["outcome"] for trial in document["trials"]]
    return [(outcome, outcomes.count(outcome)) for outcome in dict.fromkeys(outcomes)]


def _facts(document: Document) -> list[tuple[str, str]]:
    """Returns names and values of what a reader looks for first."""
    champion, baseline = document["champion"], document["baseline"]
    seconds = sum(trial["seconds"] or 0 for trial in document["trials"])
    epochs = sum(len(trial["curve"]) for trial in document["trials"])
    found = []
    if champion and champion.get("test_accuracy"):
        found.append(("test accuracy", as_text(champion["test_accuracy"])))
    if baseline and baseline["difference"] is not None:
        difference = {"mean": baseline["difference"], "ci95": baseline["difference_ci95"]}
        found.append(("best finalist minus the recipe's own settings", as_text(difference)))
    found.append(("trained in the search", f"{epochs} epochs, {_duration(seconds)}"))
    return found


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _table(document: Document) -> tuple[list[Column], list[dict[str, Any]]]:
    """Returns the columns and the rows of the table of trials, best first."""
    fields = [field["path"] for field in document["space"]]
    has_arms = bool(document.get("question"))
    columns = [
        Column("rank", is_number=True),
        Column("trial", is_number=True),
        *([Column("arm")] if has_arms else []),
        Column(document["metric"], is_number=True),
    ]
    columns += [Column("outcome"), *(Column(field) for field in fields)]
    columns += [Column("epochs", is_number=True), Column("seconds", is_number=True), Column("seed"), Column("run")]
    rows = []
    for rank, trial in enumerate(ranked(document), start=1):
        is_ranked = trial["state"] == "COMPLETE"
        values = (_shown(trial["params"].get(field)) for field in fields)
        seconds = "" if trial["seconds"] is None else f"{trial['seconds']:.1f}"
        cells = [rank if is_ranked else "", trial["number"], *([charts.arm_of(trial)] if has_arms else [])]
        cells += [value(trial), trial["outcome"], *values]
        cells += [len(trial["curve"]) or "", seconds, trial["seed"], (trial["run_id"] or "")[:8]]
        rows.append({"number": trial["number"], "cells": cells})
    return columns, rows


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def value(trial: Mapping[str, Any]) -> str:
    return "" if trial["value"] is None else f"{trial['value']:.4f}"


# In a notebook.


def result_parts(document: Document) -> list[str]:
    """Returns the sentences on the result, and the table of finalists."""
    finalists, columns = _finalists(document), ("", "params", document["metric"], "seeds")
    return [
        *map(paragraph, sentences(document)),
        *([heading("Finalists"), table(columns, finalists)] if finalists else []),
    ]


def trials_table(document: Document, most: int) -> str:
    """Returns the table of the best `most` trials."""
    columns = ("rank", "trial", document["metric"], "outcome", "params", "seed", "run")
    return table(columns, _trials(document)[:most])


def _finalists(document: Document) -> list[tuple[object, ...]]:
    rows: Sequence[tuple[str, Any]] = [(f"trial {each['number']}", each) for each in document["finalists"]]
    rows = [*rows, ("the recipe's own", document["baseline"])] if document["baseline"] else rows
    return [(name, describe(row["params"]), as_text(row), len(row["values"])) for name, row in rows]


def _trials(document: Document) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for rank, trial in enumerate(ranked(document), start=1):
        place = rank if trial["outcome"] == "finished" else ""
        words = (trial["outcome"], describe(trial["params"]), trial["seed"], trial["run_id"] or "")
        rows.append((place, trial["number"], value(trial), *words))
    return rows
