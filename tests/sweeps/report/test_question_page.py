"""A sweep's question on its page and in the terminal: what is drawn is what `--json` says."""

import argparse
from typing import Any

import pytest

from sweeps.report.charts import configurations
from sweeps.report.leaderboard import description, sentences
from sweeps.report.page import page
from tests.svg import Mark, Page, read_page, value_at
from tests.sweeps.report.documents import swept, with_question
from workbench import sweep as command

HEADING = "The question: optimizer.kind"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return with_question(swept(lambda params: 0.9 + 0.01 * params["optimizer.momentum"], trials=8))


@pytest.fixture(scope="module")
def shown(document: dict[str, Any]) -> Page:
    return read_page(page(document))


def strips(shown: Page) -> list[list[Mark]]:
    """The charts without a label, in order: axes and strips of the tables."""
    return [marks for name, marks in shown.charts.items() if name.startswith("strip ")]


def drawn(axis: list[Mark], marks: list[Mark]) -> dict[str, list[float]]:
    """The values at which a strip has its marks, by class."""
    found: dict[str, list[float]] = {"one": [], "mean": [], "interval": []}
    for mark in marks:
        kind = mark.attributes.get("class", "")
        for end in {"interval": ("x1", "x2"), "one": ("cx",), "mean": ("cx",)}.get(kind, ()):
            found[kind].append(value_at(axis, "x", mark.share(end)))
    return found


def test_the_answer_comes_first(document: dict[str, Any], shown: Page) -> None:
    asked = document["question"]
    assert shown.headings[:3] == ["Sweep simulated", HEADING, "Finalists over fresh seeds"]
    before = shown.text[: shown.text.index(HEADING)]
    for sentence in asked["sentences"]:
        assert sentence in before
    assert asked["covers"] in shown.text
    assert asked["budget"] in shown.text
    assert shown.addresses == []
    assert sentences(document)[: len(asked["sentences"])] == asked["sentences"]
    with_links = {**document, "finalists_url": document["trials_url"]}
    assert description(with_links).startswith(f"**{asked['sentences'][0]}**")


def test_arms_and_pairs_are_drawn_with_their_seeds_means_and_intervals(document: dict[str, Any], shown: Page) -> None:
    asked = document["question"]
    arms, pairs = asked["arms"], asked["pairs"]
    assert [arm["value"] for arm in arms] == ["adamw", "adam", "sgd", "rmsprop"]
    assert len(pairs) == 3
    of_arms, of_pairs = strips(shown)[: 1 + len(arms)], strips(shown)[1 + len(arms) : 2 + len(arms) + len(pairs)]
    rows = [(row["values"], row["mean"], row["ci95"]) for row in arms]
    differences = [(row["differences"], row["difference"], row["ci95"]) for row in pairs]
    for (axis, *found), expected in ((of_arms, rows), (of_pairs, differences)):
        for marks, (values, mean, ci95) in zip(found, expected, strict=True):
            at = drawn(axis, marks)
            assert at["one"] == pytest.approx([value for value in values if value is not None], abs=1e-5)
            assert at["mean"] == pytest.approx([] if mean is None else [mean], abs=1e-5)
            assert at["interval"] == pytest.approx(list(ci95 or []), abs=1e-5)
    cells = {row[0]: row for row in shown.rows if row}
    assert cells["rmsprop"]
    for pair in pairs:
        verdict = f"{pair['between'][0]} is better" if pair["distinguishable"] else "cannot be told apart"
        assert cells[" minus ".join(pair["between"])][-1] == verdict
        assert cells[" minus ".join(pair["between"])][-2] == f"{pair['p_value']:.3g}"


def test_curves_of_the_expected_best_pass_through_its_points(document: dict[str, Any], shown: Page) -> None:
    (marks,) = [marks for name, marks in shown.charts.items() if name.startswith("The expected best val/accuracy")]
    lines = [mark for mark in marks if mark.tag == "path"]
    assert [mark.attributes["class"] for mark in lines] == [
        each for colour in range(4) for each in (f"area c{colour}", f"c{colour}")
    ]
    for arm, area, line in zip(document["question"]["arms"], lines[::2], lines[1::2], strict=True):
        points = arm["expected_best"]
        assert [value_at(marks, "x", x) for x, _ in places(line)] == pytest.approx(range(1, 31), abs=0.03)
        assert [value_at(marks, "y", y) for _, y in places(line)] == pytest.approx(
            [p["mean"] for p in points], abs=2e-4
        )
        ends = [p["range95"][0] for p in points] + [p["range95"][1] for p in points][::-1]
        floor = value_at(marks, "y", 1.0)  # what is far below is drawn at the edge
        assert [value_at(marks, "y", y) for _, y in places(area)] == pytest.approx(
            [max(end, floor) for end in ends], abs=2e-4
        )


def places(mark: Mark) -> list[tuple[float, float]]:
    """The points of a path, as shares of width and of height from above."""
    points = mark.attributes["d"].removeprefix("M").removesuffix("Z").split("L")
    shares = [[float(number) / 1000 for number in point.split(" ")] for point in points]
    return [(x, y) for x, y in shares]


def test_what_each_arm_got_is_in_a_table(document: dict[str, Any], shown: Page) -> None:
    (row,) = [row for row in shown.rows if row[:1] == ["adam"] and len(row) == 7]
    best = document["question"]["arms"][1]["best_searched"]
    assert row == ["adam", "30", "1", "270", "15 min", f"{best:.4f}", "lr=0.003 momentum=0.9"]


def test_trials_and_finalists_have_their_arm(document: dict[str, Any], shown: Page) -> None:
    rows = {row[1]: row[2] for row in shown.rows if len(row) == 12}
    assert rows == {"trial": "arm"} | {str(trial["number"]): trial["arm"] for trial in document["trials"]}
    arms = [row["arm"] for row in document["finalists"]]
    names = [name for name, _ in configurations(document)][:3]
    assert [name.split(":")[0] for name in names] == arms == ["sgd", "adam", "adamw"]
    row = {"arm": "sgd", "repeat": 1, "params": {"optimizer.kind": "sgd", "optimizer.lr": 0.1}}
    told = configurations({"finalists": [row, row | {"repeat": 0}], "baseline": None})
    assert [name for name, _ in told] == ["sgd, repeat 2: sgd lr=0.1", "sgd lr=0.1"]


def test_a_sweep_without_a_question_has_no_such_section(document: dict[str, Any]) -> None:
    assert HEADING not in read_page(page({**document, "question": None})).headings
    del (older := dict(document))["question"]  # as an earlier version wrote it
    assert HEADING not in read_page(page(older)).headings
    assert sentences(older) == sentences({**document, "question": None})


def test_the_terminal_shows_arms_and_pairs(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    asked = document["question"]
    told = {**document, "champion": None, "finalists_url": "http://127.0.0.1:5000"}
    command.show(told, argparse.Namespace(store="mlruns", dry_run=False))
    out = capsys.readouterr().out
    assert out.startswith(asked["sentences"][0])
    for pair in asked["pairs"]:
        verdict = "is better" if pair["distinguishable"] else "cannot be told apart"
        (line,) = [line for line in out.splitlines() if f"{' minus '.join(pair['between'])}: " in line]
        assert line.endswith(verdict)
        assert f"p = {pair['p_value']:.3g}" in line
    (line,) = [line for line in out.splitlines() if line.startswith("  rmsprop")]
    assert "no score" in line
    assert asked["covers"] in out
