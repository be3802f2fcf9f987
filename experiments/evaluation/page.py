"""An evaluation as one self-contained HTML page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.comparison.curves import Curve
from experiments.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from experiments.evaluation.text import interval, sentences
from experiments.pages.page import render
from experiments.pages.scales import Chart, Scale

_TEMPLATE = Path(__file__).parent / "templates" / "evaluation.html"
_OWN, _OTHER = "this model", "the other"

Document = Mapping[str, Any]


def title_of(document: Document) -> str:
    return f"evaluation of {document['name']}"


def page(document: Document, images: Sequence[str], examples: Mapping[str, Sequence[str]], to_serve: str) -> str:
    """Returns the page.

    `images`: those of `agreement.disagreements`, and `examples`: one image under each corruption at every strength,
    all as data URLs. `to_serve`: starts the dashboard.
    """
    verdict, *more = sentences(document)
    against = document["corruption_error"]["against"]
    scale = _scale(document)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in CORRUPTIONS}
    for row in document["corruptions"]:
        rows[row["name"]].append(row)
    known = [row["accuracy"] for row in document["classes"] if row["accuracy"] is not None]
    return render(
        _TEMPLATE,
        {},
        title=title_of(document),
        verdict=verdict,
        sentences=more,
        document=document,
        against=against,
        strengths=STRENGTHS,
        rows=rows,
        corruptions=CORRUPTIONS,
        curves={name: list(_curves(document, rows[name], scale)) for name in rows},
        colours={_OWN: 0, _OTHER: "own"},
        scale=scale,
        errors=document["corruption_error"],
        diagram=Chart(Scale(0, 1), Scale(0, 1)),
        bins=document["calibration"]["bins"],
        class_scale=Scale.around([*known, *(end for row in document["classes"] for end in row["ci95"] or ())]),
        agreement=document["agreement"],
        images=images,
        examples=examples,
        interval=interval,
        to_serve=to_serve,
    )


def _scale(document: Document) -> Chart:
    """Returns the scales of the charts of all corruptions: strength 0 is the images as they are."""
    values = [document["accuracy"]["value"]]
    for row in document["corruptions"]:
        values += [row["accuracy"], *(row["ci95"] or ()), row.get("against", row["accuracy"])]
    return Chart(Scale(-0.2, STRENGTHS[-1] + 0.2, whole=True), Scale.around(values))


def _curves(document: Document, rows: Sequence[Mapping[str, Any]], chart: Chart) -> Iterator[Curve]:
    def line(values: Sequence[float], start: int) -> list[tuple[float, float]]:
        return [(chart.x.share(strength), chart.y.share(value)) for strength, value in enumerate(values, start)]

    clean = document["accuracy"]
    values = [(clean["value"], clean["ci95"]), *((row["accuracy"], row["ci95"]) for row in rows)]
    ends = [ci95 or (value, value) for value, ci95 in values]
    low, high = (line([end[side] for end in ends], 0) for side in (0, 1))
    if "against" in rows[0]:
        yield Curve(_OTHER, line([row["against"] for row in rows], 1), [], [])
    yield Curve(_OWN, line([value for value, _ in values], 0), low, high)
