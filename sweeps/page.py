"""A sweep's report as one HTML page that needs nothing from elsewhere."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from sweeps.leaderboard import as_text, doubts, headline, ranked
from sweeps.space import describe

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% }
""".strip()


def page(document: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """`document`: the report; `pictures`: titles with their PNG files."""
    finalists = [(f"trial {each['number']}", describe(each["params"]), each) for each in document["finalists"]]
    if document["baseline"]:
        finalists.append(("the recipe's own", describe(document["baseline"]["params"]), document["baseline"]))
    parts = [
        f"<h1>{escape(document['sweep'])}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in [headline(document), *doubts(document)]),
        "<h2>Finalists</h2>" if finalists else "",
        _table(
            ("", "params", document["metric"], "seeds"), [(n, p, as_text(s), len(s["values"])) for n, p, s in finalists]
        )
        if finalists
        else "",
        *(_picture(title, path) for title, path in pictures.items()),
        "<h2>Trials</h2>",
        _table(("rank", "trial", document["metric"], "outcome", "params", "seed", "run"), _trials(document)),
    ]
    title = escape(f"Sweep {document['sweep']}")
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
    return "\n".join(['<!doctype html><html lang="en">', head, "<body>", *filter(None, parts), "</body></html>", ""])


def _trials(document: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for rank, trial in enumerate(ranked(document), start=1):
        place = rank if trial["outcome"] == "finished" else ""
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        words = (trial["outcome"], describe(trial["params"]), trial["seed"], trial["run_id"] or "")
        rows.append((place, trial["number"], value, *words))
    return rows


def _table(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *body, "</tbody></table>"])


def _picture(title: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<h2>{escape(title)}</h2>\n<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
