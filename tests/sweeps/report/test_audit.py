"""What is found in sweeps with one planted fault each, and in honest ones."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from sweeps.config import SweepConfig
from sweeps.report.audit import audit
from tests.sweeps.report.documents import EPOCHS, rising, swept

Params = Mapping[str, Any]


def peak(params: Params, lr: float = 3e-3) -> float:
    """Best at a learning rate inside the range, a momentum of 0.5, and the cosine schedule."""
    away = math.log10(params["optimizer.lr"] / lr)
    schedule = 0.0 if params["optimizer.schedule.kind"] == "cosine" else 0.03
    return 0.95 - 0.06 * away**2 - 0.15 * (params["optimizer.momentum"] - 0.5) ** 2 - schedule


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The remedies by field. Each is YAML with fields that a sweep's recipe has."""
    found = {}
    for each in audit(document):
        found[each["field"]] = yaml.safe_load(each["remedy"])
        assert found[each["field"]].keys() <= SweepConfig.__dataclass_fields__.keys()
    return found


@pytest.mark.parametrize("noise", [0.0005, 0.002])
def test_an_honest_sweep_has_no_finding(noise: float) -> None:
    assert audit(swept(peak, noise=noise, top=2)) == []


def test_an_optimum_at_the_edge_is_told_with_a_wider_range() -> None:
    found = findings(swept(lambda params: peak(params, lr=1.0), top=2, noise=0.0005))
    assert found["optimizer.lr"] == {"space": {"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}}}


def test_an_optimum_at_the_lower_end_of_a_linear_range() -> None:
    def true(params: Params) -> float:
        return peak({**params, "optimizer.momentum": 0.5}) - params["optimizer.momentum"]

    found = findings(swept(true, top=2, noise=0.0005))
    assert found["optimizer.momentum"] == {"space": {"optimizer.momentum": {"low": -0.5, "high": 1.0}}}


def test_too_small_a_budget_is_told() -> None:
    document = swept(peak, top=2, noise=0.0005)
    trials = sorted(document["trials"], key=lambda trial: trial["value"])  # as if each had been better than the last
    document["trials"] = [{**trial, "number": number} for number, trial in enumerate(trials)][:12]
    assert findings(document)["budget.trials"] == {"budget": {"trials": 24}}


def test_a_pruner_that_stops_slow_starters_is_told() -> None:
    def slow(params: Params, value: float) -> list[tuple[int, float]]:
        if params["optimizer.schedule.kind"] == "cosine":  # ends best, and is last until then
            return [(epoch, value * (epoch / EPOCHS) ** 2) for epoch in range(1, EPOCHS + 1)]
        return rising(value)

    def stopped(number: int, params: Params, points: list[tuple[int, float]]) -> tuple[int, str] | None:
        return (
            (3, "") if (number % 3 == 0 and params["optimizer.schedule.kind"] == "cosine") or number % 5 == 0 else None
        )

    found = findings(swept(peak, curve=slow, stopped=stopped, top=2))
    assert found["pruner.warmup_epochs"] == {"pruner": {"warmup_epochs": 9}}
    fair = swept(peak, stopped=lambda number, params, points: (3, "") if points[2][1] < 0.8 else None, top=2)
    assert "pruner.warmup_epochs" not in findings(fair)


def test_a_limit_that_stops_what_was_ahead_is_told() -> None:
    def stopped(number: int, params: Params, points: list[tuple[int, float]]) -> tuple[int, str] | None:
        return (4, "constraints.seconds: 12 is more than 10") if points[-1][1] > 0.93 else None

    assert findings(swept(peak, stopped=stopped))["constraints.seconds"] == {"constraints": {"seconds": None}}


def test_a_limit_that_keeps_a_quarter_from_training_is_told() -> None:
    def stopped(number: int, params: Params, points: list[tuple[int, float]]) -> tuple[int, str] | None:
        return (0, "constraints.parameters: 2,000 is more than 1,000") if number % 4 == 0 else None

    assert "constraints.parameters" in findings(swept(peak, stopped=stopped))


def test_a_field_that_makes_no_difference_is_told() -> None:
    document = swept(peak, top=2)
    rows = [("optimizer.lr", 0.9, (0.8, 0.97)), ("optimizer.momentum", 0.02, (0.001, 0.04))]
    document["importance"]["fields"] = [{"path": path, "share": share, "ci95": ci95} for path, share, ci95 in rows]
    found = findings(document)
    best = max(document["trials"], key=lambda trial: trial["value"])["params"]["optimizer.momentum"]
    assert found == {"optimizer.momentum": {"overrides": {"optimizer.momentum": best}}}


def test_a_baseline_that_wins_is_told_with_what_the_search_cost() -> None:
    document = swept(peak, own=0.96, top=2)
    (text,) = [each["finding"] for each in audit(document) if each["field"] == "space"]
    assert "After 40 trials and 400 epochs the recipe's own settings were not beaten" in text


def test_places_that_cannot_be_told_apart_are_told_with_the_seeds_that_may() -> None:
    document = swept(peak, top=2)
    document["runner_up"] |= {"difference": 0.001, "ci95": (-0.001, 0.003), "distinguishable": False}
    assert findings(document)["finalists.seeds"] == {"finalists": {"seeds": 20}}  # 5 seeds × (0.002 / 0.001)²


def test_an_order_that_is_luck_is_told() -> None:
    flat = swept(lambda params: 0.9 + 0.0001 * params["optimizer.momentum"], noise=0.0001)
    for row in flat["finalists"]:
        row["values"] = [0.88, 0.9, 0.92, 0.89, 0.91]
    assert "finalists" in findings(flat)


def test_no_remedy_breaks_the_rules_of_a_question() -> None:
    flat = swept(lambda params: 0.9 + 0.0001 * params["optimizer.momentum"], noise=0.0001)
    for row in flat["finalists"]:
        row["values"] = [0.88, 0.9, 0.92, 0.89, 0.91]
    assert findings(flat | {"question": {}})["finalists"] == {"finalists": {"seeds": 10}}
    improving = swept(peak, top=2, noise=0.0005)
    trials = sorted(improving["trials"], key=lambda trial: trial["value"])
    improving["trials"] = [{**trial, "number": number} for number, trial in enumerate(trials)][:12]
    assert "budget.trials" not in findings(improving | {"question": {}})
