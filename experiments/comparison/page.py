"""A comparison as parts of an HTML page: sentences and tables."""

from collections.abc import Mapping
from typing import Any

from experiments.comparison.text import cell, field, group, group_columns, labels, score, short_cell, verdicts
from experiments.webpage import heading, link, paragraph, table

_MOST_COLUMNS = 12  # up to this many runs are columns; more are rows

Document = Mapping[str, Any]


def title_of(document: Document) -> str:
    names = [run["name"] for run in document["runs"]]
    return f"{names[0]} against {names[1]}" if len(names) == 2 else f"comparison of {len(names)} runs"


def parts_of(document: Document, to_serve: str = "workbench ui") -> list[str]:
    """Returns the parts. `to_serve`: the command that starts the dashboard."""
    groups = [group(found) for found in document["groups"]]
    return [
        *(paragraph(sentence) for sentence in [*verdicts(document), *document["notes"]]),
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
    named = labels(document)
    scores = {place["run_id"]: f"{place['score']:.4f}" for place in document["ranking"]}
    shown = [row for row in document["differences"] if row["kind"] == "param"]
    also = ", ".join(field(row) for row in document["differences"] if row not in shown)
    ids = [*scores, *(run_id for run_id in named if run_id not in scores)]
    rows = [(named[run_id], scores.get(run_id, ""), *(short_cell(row, run_id) for row in shown)) for run_id in ids]
    columns = ("run", document["metric"], *(row["field"] for row in shown))
    return [heading("Runs"), paragraph(f"Other differences: {also}.") if also else "", table(columns, rows)]
