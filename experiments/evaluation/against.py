"""The runs that corruption errors are relative to: those that the user names, or the recipe's own settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.artifact_names import LEADERBOARD
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Against:
    """Runs, and what they are called. `is_given`: by the user, who must be told if they cannot be used."""

    name: str
    runs: Sequence[RunSummary]
    is_given: bool


def own_settings(artifacts: Artifacts, runs: Sequence[RunSummary]) -> Against | None:
    """Returns the runs of the recipe's own settings in the sweep that `runs` belong to; None if there are none.

    A sweep has them if its recipe says `finalists: {baseline: true}`. None also if `runs` are these runs themselves.
    """
    store = artifacts.store
    parent = store.client.get_run(runs[0].run_id).data.tags.get("mlflow.parentRunId")
    if parent is None:
        return None
    sweep = RunSummary.of(store.client.get_run(parent))
    path = artifacts.find(sweep, LEADERBOARD) if sweep.kind == "sweep" else None
    try:
        baseline = json.loads(path.read_text(encoding="utf-8"))["baseline"] if path else None
    except (OSError, ValueError, KeyError):
        return None
    if not baseline or runs[0].run_id in baseline["run_ids"]:
        return None
    return Against(name="the recipe's own settings", runs=_summaries(store, baseline["run_ids"]), is_given=False)


def _summaries(store: Store, run_ids: Sequence[str]) -> list[RunSummary]:
    return [RunSummary.of(store.client.get_run(run_id)) for run_id in run_ids]
