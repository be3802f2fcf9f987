"""The page of a sweep: what it draws is what `--json` says."""

import json
import math
from typing import Any

import pytest

from sweeps.report.leaderboard import verdict
from sweeps.report.page import page
from tests.svg import Mark, Page, read_page, value_at
from tests.sweeps.report.documents import LR, MOMENTUM, SCHEDULE, swept

FIELDS = ["optimizer.lr", "optimizer.momentum", "optimizer.schedule.kind"]


def true(params: Any) -> float:
    return 0.95 - 0.05 * math.log10(params["optimizer.lr"] / 3e-3) ** 2 - 0.05 * params["optimizer.momentum"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    def stopped(number: int, *_: object) -> tuple[int, str] | None:
        return (3, "") if number % 4 == 3 else None

    return swept(true, stopped=stopped)


@pytest.fixture(scope="module")
def shown(document: dict[str, Any]) -> Page:
    return read_page(page(document))


def marks_of(shown: Page, label: str) -> list[Mark]:
    """The marks of the one chart whose label begins so."""
    (found,) = [marks for name, marks in shown.charts.items() if name.startswith(label)]
    return found


def test_the_verdict_comes_first_and_everything_has_its_section(document: dict[str, Any], shown: Page) -> None:
    assert shown.headings == [
        "Sweep simulated",
        "Finalists over fresh seeds",
        "The search",
        "Fields against val/accuracy",
        "Trials",
        "Workers over time",
        "Lines to paste",
    ]
    before = shown.text[: shown.text.index("Finalists over fresh seeds")]
    assert verdict(document) in before
    assert "40 of 40 trials: 30 finished, 10 pruned." in before
    assert shown.addresses == []


def test_dots_of_the_history_are_the_trials_values(document: dict[str, Any], shown: Page) -> None:
    marks = marks_of(shown, "Values of 40 trials")
    dots = {int(mark.attributes["data-trial"]): mark for mark in marks if mark.tag == "circle"}
    complete = {trial["number"]: trial["value"] for trial in document["trials"] if trial["state"] == "COMPLETE"}
    assert dots.keys() == complete.keys()
    low = min(value_at(marks, "y", 1.0), value_at(marks, "y", 0.0))
    for number, dot in dots.items():
        assert value_at(marks, "x", dot.share("cx")) == pytest.approx(number, abs=0.02)
        assert value_at(marks, "y", dot.share("cy")) == pytest.approx(max(complete[number], low), abs=1e-4)


def test_finalists_are_drawn_with_their_seeds_means_and_intervals(document: dict[str, Any], shown: Page) -> None:
    rows = [*document["finalists"], document["baseline"]]
    strips = [marks for marks in shown.charts.values() if any(m.attributes.get("class") == "interval" for m in marks)]
    (axis,) = [marks for marks in shown.charts.values() if marks and marks[0].attributes.get("height") == "16"][:1]
    assert len(strips) == len(rows) == 4
    for row, marks in zip(rows, strips, strict=True):
        (mean,) = [mark for mark in marks if mark.attributes.get("class") == "mean"]
        (interval,) = [mark for mark in marks if mark.attributes.get("class") == "interval"]
        ones = [mark.share("cx") for mark in marks if mark.attributes.get("class") == "one"]
        assert value_at(axis, "x", mean.share("cx")) == pytest.approx(row["mean"], abs=1e-5)
        assert [value_at(axis, "x", interval.share(end)) for end in ("x1", "x2")] == pytest.approx(
            row["ci95"], abs=1e-5
        )
        assert [value_at(axis, "x", share) for share in ones] == pytest.approx(row["values"], abs=1e-5)


def test_lines_of_the_coordinates_pass_through_the_trials_settings(document: dict[str, Any], shown: Page) -> None:
    data = json.loads(shown.data)
    assert [axis["path"] for axis in data["axes"]] == [*FIELDS, "val/accuracy"]
    trials = {str(trial["number"]): trial for trial in document["trials"]}
    assert {number for number, _ in data["lines"]} == {n for n, t in trials.items() if t["state"] == "COMPLETE"}
    rate, _, kind, _ = data["axes"]
    for number, shares in data["lines"]:
        params = trials[number]["params"]
        assert rate["low"] * (rate["high"] / rate["low"]) ** shares[0] == pytest.approx(
            params["optimizer.lr"], rel=0.01
        )
        assert kind["choices"][int(shares[2] * 2)] == params["optimizer.schedule.kind"]
    drawn = [mark for mark in marks_of(shown, "Parallel coordinates") if mark.tag == "path"]
    for mark, (number, shares) in zip(drawn, data["lines"], strict=True):
        assert mark.attributes["data-trial"] == number
        places = [float(point.split(" ")[0]) / 1000 for point in mark.attributes["d"].removeprefix("M").split("L")]
        assert places == pytest.approx(shares, abs=1e-3)
    best = max(trials.values(), key=lambda trial: trial["value"] if trial["state"] == "COMPLETE" else -1)
    assert drawn[-1].attributes["data-trial"] == str(best["number"])  # on top
    assert "v9" in drawn[-1].attributes["class"]


def test_a_trial_without_a_field_stands_before_its_axis() -> None:
    document = swept(lambda params: 0.9 + 0.01 * params.get("optimizer.momentum", 0), space=(LR, MOMENTUM, SCHEDULE))
    del document["trials"][0]["params"]["optimizer.momentum"]
    lines = dict(json.loads(read_page(page(document)).data)["lines"])
    assert lines["0"][1] < 0 < lines["1"][1]


def test_every_trial_has_a_row_the_best_first(document: dict[str, Any], shown: Page) -> None:
    rows = [row for row in shown.rows if len(row) == 11][1:]
    assert len(rows) == len(document["trials"]) == 40
    complete = sorted((t for t in document["trials"] if t["state"] == "COMPLETE"), key=lambda t: -t["value"])
    assert [row[1] for row in rows[:30]] == [str(trial["number"]) for trial in complete]
    assert [row[0] for row in rows] == [*map(str, range(1, 31)), *[""] * 10]
    assert rows[0][2] == f"{complete[0]['value']:.4f}"


def test_workers_have_a_bar_a_trial_as_long_as_it_ran(shown: Page) -> None:
    bars = [mark for marks in shown.charts.values() for mark in marks if mark.tag == "rect"]
    assert len(bars) == 40
    assert [bar.share("width") for bar in bars] == pytest.approx([0.5 / 39.5] * 40, abs=1e-4)  # half a minute of 39.5


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_a_sweep_that_has_just_begun_has_a_page(trials: int) -> None:
    begun = swept(true, trials=3, top=1)
    begun |= {
        "trials": begun["trials"][:trials],
        "finalists": [],
        "champion": None,
        "baseline": None,
        "runner_up": None,
    }
    begun["trials"][-1:] = [
        {**trial, "state": "RUNNING", "outcome": "running", "value": None, "curve": [], "seconds": None}
        for trial in begun["trials"][-1:]
    ]
    shown = read_page(page(begun))
    assert f"{trials} of 3 trials" in shown.text
    assert shown.headings[-1] == "Lines to paste"


@pytest.mark.parametrize(("trials", "most"), [(60, 300_000), (1000, 1_500_000)])
def test_a_page_is_small(trials: int, most: int) -> None:
    assert len(page(swept(true, trials=trials)).encode()) < most
