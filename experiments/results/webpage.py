"""Builds self-contained HTML pages with text, tables and embedded pictures."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from experiments.artifact_names import PAGE_MARK

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left; white-space: pre }
th, td { vertical-align: top; font-variant-numeric: tabular-nums }
img { max-width: 100% }
""".strip()


def webpage(title: str, parts: Iterable[str]) -> str:
    """Returns a page made of `parts`, which are HTML; empty parts are skipped."""
    head = f'<head><meta charset="utf-8">{PAGE_MARK}<title>{escape(title)}</title><style>{_STYLE}</style></head>'
    return "\n".join(['<!doctype html><html lang="en">', head, "<body>", *filter(None, parts), "</body></html>", ""])


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def link(text: str, url: str) -> str:
    return f'<p><a href="{escape(url)}">{escape(text)}</a></p>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *body, "</tbody></table>"])


def picture(title: str, png: Path) -> str:
    data = base64.b64encode(png.read_bytes()).decode()
    return f'{heading(title)}\n<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
