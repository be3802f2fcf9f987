"""Renders a page from its template, with style, script and data inside: one file that loads no other.

The page's Content-Security-Policy allows its own style and its own script, by their hashes, and embedded pictures. A
template may have a style of its own beside it, which is added, and a script, which takes the place of `page.js`.
Text is escaped by jinja2; what could act on a reader, such as a mark of direction, is shown as an escape.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.artifact_names import PAGE_MARK
from experiments.pages.scales import Point
from lightning_modules.showable import showable_lines

TEMPLATES = Path(__file__).parent / "templates"


def render(template: Path, data: Any, *, connects: bool = False, **content: Any) -> str:
    """Returns the page of a template, which extends `page.html`.

    `data`: what the script knows, as JSON. `connects`: the script may ask the server that the page comes from.
    `content`: the template's variables.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    if (own := template.with_suffix(".css")).exists():
        style += own.read_text(encoding="utf-8")
    if (own := template.with_suffix(".js")).exists():
        script = own.read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:"
    if connects:
        policy += "; connect-src 'self'"
    return (
        _environment(template.parent)
        .get_template(template.name)
        .render(
            content,
            data=_embedded(data),
            mark=Markup(PAGE_MARK),
            policy=f"{policy}; base-uri 'none'; form-action 'none'",
            script=Markup(script),
            style=Markup(style),
        )
    )


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(percent=percent, path=path, band=band)
    return environment


def _shown(value: object) -> object:
    return showable_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: Any) -> Markup:
    """Returns JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def percent(share: float) -> Markup:
    """Returns a share of a length as an SVG coordinate."""
    return Markup(f"{100 * share:.2f}%")


def path(points: Iterable[Point]) -> Markup:
    """Returns the line through points in a box of 1000 × 1000, whose first row is above."""
    return Markup("M" + "L".join(f"{1000 * x:.0f} {1000 * (1 - y):.0f}" for x, y in points))


def band(low: Iterable[Point], high: Iterable[Point]) -> Markup:
    """Returns the area between two lines."""
    return path([*low, *reversed(list(high))]) + Markup("Z")
