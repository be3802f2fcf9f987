"""Results of sweeps that never ran: documents as `SweepResult.as_dict` makes them, from a formula for the score."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from experiments.comparison.statistics import estimate, paired_difference
from sweeps.report.answer import ArmScores, answer

LR = {"path": "optimizer.lr", "low": 1e-4, "high": 1e-1, "log": True}
MOMENTUM = {"path": "optimizer.momentum", "low": 0.0, "high": 1.0, "log": False}
SCHEDULE = {"path": "optimizer.schedule.kind", "choices": ["constant", "cosine"]}
EPOCHS, SEEDS = 10, 5

Params = Mapping[str, Any]


def rising(value: float, epochs: int = EPOCHS) -> list[tuple[int, float]]:
    """The learning curve of most trials: half of the way to its end after the first epoch, and so on."""
    return [(epoch, value * (1 - 0.5**epoch)) for epoch in range(1, epochs + 1)]


def swept(
    true: Callable[[Params], float],
    *,
    space: Sequence[Params] = (LR, MOMENTUM, SCHEDULE),
    trials: int = 40,
    own: float = 0.85,
    noise: float = 0.002,
    curve: Callable[[Params, float], list[tuple[int, float]]] = lambda params, value: rising(value),
    stopped: Callable[[int, Params, list[tuple[int, float]]], tuple[int, str] | None] = lambda *_: None,
    top: int = 3,
) -> dict[str, Any]:
    """A random search and its finalists. `true`: the mean score of a configuration; `own`: that of the recipe's own.

    `stopped`: after how many epochs a trial is pruned, and why; None if it is not.
    """
    draw = np.random.default_rng(0)
    rows = []
    for number in range(trials):
        params = {field["path"]: _drawn(field, draw) for field in space}
        value = float(true(params) + noise * draw.standard_normal())
        points = curve(params, value)
        end = stopped(number, params, points)
        rows.append(
            {
                "number": number,
                "state": "PRUNED" if end else "COMPLETE",
                "outcome": "pruned" if end else "finished",
                "value": (points[end[0] - 1][1] if end[0] else None) if end else value,
                "params": params,
                "run_id": f"{number:032x}",
                "seed": number,
                "started": (datetime(2026, 1, 1) + timedelta(minutes=number)).isoformat(),
                "seconds": 30.0,
                "worker": f"process {number % 2 + 1} on host",
                "curve": points[: end[0]] if end else points,
                "error": end[1] if end else "",
            }
        )
    complete = sorted((row for row in rows if row["state"] == "COMPLETE"), key=lambda row: -row["value"])
    shared = draw.standard_normal(SEEDS)  # what a seed does to every configuration alike
    means = [(row["number"], row["params"], true(row["params"])) for row in complete[:top]]
    finalists = [
        _row(params, mean + noise * (shared + 0.3 * draw.standard_normal(SEEDS))) | {"number": number}
        for number, params, mean in means
    ]
    finalists.sort(key=lambda row: -row["mean"])
    baseline = _row({}, own + noise * shared)
    first, *others = finalists
    ahead = paired_difference(first["values"], baseline["values"])
    baseline |= {"difference": ahead.mean, "difference_ci95": ahead.ci95}
    second = paired_difference(first["values"], others[0]["values"]) if others else None
    best = complete[0]
    return {
        "sweep": "simulated",
        "sweep_run_id": "f" * 32,
        "study": "simulated",
        "target": trials,
        "metric": "val/accuracy",
        "direction": "maximize",
        "space": list(space),
        "trials": rows,
        "best": {name: best[name] for name in ("number", "value", "params", "run_id")},
        "finalists": finalists,
        "champion": {
            "number": first["number"],
            "run_ids": [],
            "test_accuracy": {"mean": first["mean"], "ci95": first["ci95"]},
        },
        "runner_up": second
        and {
            "number": others[0]["number"],
            "difference": second.mean,
            "ci95": second.ci95,
            "distinguishable": second.is_clear_of_zero,
        },
        "baseline": baseline,
        "luck": None,
        "importance": {"fields": [], "reason": "not computed"},
        "audit": [],
        "commands": [("Run the champion again:", "workbench reproduce simulated:champion")],
        "dashboard_url": "http://127.0.0.1:5000/#/experiments/1/runs/f",
        "trials_url": "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=f",
    }


def with_question(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a sweep with a question about four arms, of which the last failed with one seed."""
    draw = np.random.default_rng(1)
    shared = 0.002 * draw.standard_normal(SEEDS)

    def arm(value: str, mean: float, failed: int = 0) -> ArmScores:
        values = mean + shared + 0.001 * draw.standard_normal(SEEDS)
        values[:failed] = np.nan
        searched = mean - 0.03 * np.abs(draw.standard_normal(30))
        searched[3] = np.nan
        return ArmScores(
            value=value,
            searched=searched.tolist(),
            values=values.tolist(),
            run_ids=["b" * 32] * SEEDS,
            params={"optimizer.lr": 0.003, "optimizer.momentum": 0.9},
            epochs=270,
            seconds=900.0,
        )

    arms = [arm("sgd", 0.96), arm("adam", 0.98), arm("adamw", 0.9805), arm("rmsprop", 0.97, failed=1)]
    found = answer(arms, field="optimizer.kind", sign=1, metric="test/accuracy", searched_metric="val/accuracy")
    trials = [trial | {"arm": arms[trial["number"] % 4].value, "repeat": 0} for trial in document["trials"]]
    finalists = [row | {"arm": arms[n % 4].value, "repeat": 0} for n, row in enumerate(document["finalists"])]
    return {**document, "question": found.as_dict(), "trials": trials, "finalists": finalists}


def _drawn(field: Params, draw: np.random.Generator) -> Any:
    if "choices" in field:
        return field["choices"][draw.integers(len(field["choices"]))]
    if field["log"]:
        return float(np.exp(draw.uniform(np.log(field["low"]), np.log(field["high"]))))
    return float(draw.uniform(field["low"], field["high"]))


def _row(params: Params, values: Any) -> dict[str, Any]:
    return {
        "params": dict(params),
        **vars(estimate(values)),
        "values": [float(value) for value in values],
        "run_ids": ["a" * 32] * len(values),
        "seconds": [30.0] * len(values),
        "curves": [rising(float(value)) for value in values],
    }
