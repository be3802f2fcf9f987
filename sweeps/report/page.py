"""A sweep's report as one self-contained HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.webpage import heading, paragraph, picture, table, webpage
from sweeps.report.leaderboard import as_text, doubts, headline, ranked
from sweeps.strategy.space import describe


def page(document: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """Returns the page for a result (`SweepResult.as_dict`). `pictures` maps each title to a PNG file."""
    parts = [
        heading(document["sweep"], level=1),
        *result_parts(document),
        *(picture(title, path) for title, path in pictures.items()),
        heading("Trials"),
        trials_table(document, len(document["trials"])),
    ]
    return webpage(f"Sweep {document['sweep']}", parts)


def result_parts(document: Mapping[str, Any]) -> list[str]:
    """Returns the sentences on the result, and the table of finalists."""
    finalists, columns = _finalists(document), ("", "params", document["metric"], "seeds")
    return [
        *(paragraph(sentence) for sentence in [headline(document), *doubts(document)]),
        *([heading("Finalists"), table(columns, finalists)] if finalists else []),
    ]


def trials_table(document: Mapping[str, Any], most: int) -> str:
    """Returns the table of the best `most` trials."""
    columns = ("rank", "trial", document["metric"], "outcome", "params", "seed", "run")
    return table(columns, _trials(document)[:most])


def _finalists(document: Mapping[str, Any]) -> list[tuple[object, ...]]:
    rows = [(f"trial {each['number']}", each) for each in document["finalists"]]
    rows += [("the recipe's own", document["baseline"])] if document["baseline"] else []
    return [(name, describe(row["params"]), as_text(row), len(row["values"])) for name, row in rows]


def _trials(document: Mapping[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for rank, trial in enumerate(ranked(document), start=1):
        place = rank if trial["outcome"] == "finished" else ""
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        words = (trial["outcome"], describe(trial["params"]), trial["seed"], trial["run_id"] or "")
        rows.append((place, trial["number"], value, *words))
    return rows
