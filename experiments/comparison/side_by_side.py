"""Several sweeps side by side: what each found and what it took, from the leaderboard that it left."""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from experiments.artifact_names import LEADERBOARD
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary


def side_by_side(artifacts: Artifacts, sweeps: Sequence[RunSummary]) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns a row for each sweep, and notes on those that cannot be shown.

    `sweep`, `run_id`, `metric`; `trials`, `epochs` and `seconds` of the search (null in sweeps of earlier versions);
    `params`, `mean`, `ci95` and `values` of the first finalist; `baseline` and `test_accuracy`: mean and ci95 of the
    recipe's own settings on validation data, and of the champion on test; `best_so_far`: [trial, value] after each
    completed trial.
    """
    rows, notes = [], []
    for run in sweeps:
        path = artifacts.find(run, LEADERBOARD)
        try:
            rows.append(_row(run, json.loads(path.read_text(encoding="utf-8")) if path else {}))
        except (OSError, ValueError, KeyError):
            notes.append(f"the sweep {run.name} is not shown beside the others: its {LEADERBOARD} cannot be read")
    return rows, notes


def _row(run: RunSummary, found: Mapping[str, Any]) -> dict[str, Any]:
    trials, finalists, champion = found["trials"], found["finalists"], found["champion"]
    first = finalists[0] if finalists else {}
    has_times = all("curve" in trial for trial in trials)
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    best = accumulate((trial["value"] for trial in complete), max if found["direction"] == "maximize" else min)
    return {
        "sweep": found["sweep"],
        "run_id": run.run_id,
        "metric": found["metric"],
        "trials": len(trials),
        "epochs": sum(len(trial["curve"]) for trial in trials) if has_times else None,
        "seconds": sum(trial["seconds"] or 0 for trial in trials) if has_times else None,
        "params": first.get("params"),
        "mean": first.get("mean"),
        "ci95": first.get("ci95"),
        "values": first.get("values", []),
        "baseline": _estimate(found["baseline"]),
        "test_accuracy": _estimate(champion and champion.get("test_accuracy")),
        "best_so_far": [[trial["number"], value] for trial, value in zip(complete, best, strict=True)],
    }


def _estimate(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if not found else {"mean": found["mean"], "ci95": found["ci95"]}
