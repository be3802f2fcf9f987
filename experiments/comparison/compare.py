"""Compares runs: what differs between them, how their scores differ, and whether that difference is real."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from experiments.code.scratch import scratch_folder
from experiments.comparison.comparable import cannot_be_compared, different_images, without_score
from experiments.comparison.differences import differences, does_differ, read_provenances
from experiments.comparison.groups import group_by_param, group_by_seed
from experiments.comparison.objective import objective_of
from experiments.comparison.significance import corrected, image_tests, seed_tests
from experiments.results.artifacts import Artifacts
from experiments.tracking import dashboard
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from lightning_modules.metrics import sign_of

Document = dict[str, Any]


def compare(
    store: Store, runs: Sequence[RunSummary], *, group_by: str | None = None, show_all: bool = False
) -> Document:
    """Returns the command line's JSON document. It holds `runs`, and:

    - `differences`: rows {field, kind, values{run_id: value}}; with `show_all` also of the fields that are equal;
    - `metrics`: rows {name, values{run_id: value}, best: [run_id]}; a run without a score is never the best, nor is one
      of several that saw different images;
    - `metric`: the metric that runs are ranked and tested by; `ranking`: [{run_id, score}], best first;
    - `groups`, if runs are grouped by a param, or some differ only in the seed: {name, run_ids, metric, values, mean,
      sd, ci95};
    - `tests`: {name, metric, between, difference, ci95, p_value, uncorrected_p_value, distinguishable}: between groups
      over their seeds if at least two have several runs, else between runs on the images that they labelled;
    - `other_tests`: the same by every other metric, of the best run or group against the next;
    - `notes`: one sentence for each thing that could not be compared, with the reason;
    - `dashboard_url`: MLflow's own comparison of these runs.

    Raises InputError if no run has the param `group_by`.
    """
    objective, doubts = objective_of(runs)
    with scratch_folder(store.folder / "scratch") as scratch:
        artifacts = Artifacts(store, scratch)
        recorded = read_provenances(artifacts, runs)
        rows, notes = differences(artifacts, recorded)
        groups = group_by_param(runs, group_by, objective) if group_by else group_by_seed(runs, rows, objective)
        with_seeds = [group for group in groups if len(group.runs) > 1]
        found = seed_tests(groups, recorded) if len(with_seeds) > 1 else image_tests(artifacts, recorded, objective)
    scored = [each for each in recorded if objective.score(each.run) is not None]
    different = different_images(scored)
    told = {"train", objective.split} if len(with_seeds) > 1 else {"train"}  # tests over seeds have their own note
    return {
        "runs": [run.as_dict() for run in runs],
        "differences": [row for row in rows if show_all or does_differ(row)],
        "metrics": _metrics([each.run for each in scored], runs, different),
        "metric": objective.logged,
        "ranking": [{"run_id": run.run_id, "score": objective.score(run)} for run in objective.ranked(runs)],
        "groups": [group.as_dict() for group in (groups if group_by else with_seeds)],
        "tests": corrected(found.tests),
        "other_tests": corrected(found.others),
        "notes": [*without_score(runs, objective), *cannot_be_compared(different, told), *doubts, *notes, *found.notes],
        "dashboard_url": dashboard.compare_url(
            store, sorted({run.experiment_id for run in runs}), [run.run_id for run in runs]
        ),
    }


def _metrics(
    scored: Sequence[RunSummary], runs: Sequence[RunSummary], different: Collection[str]
) -> list[dict[str, Any]]:
    """Returns every metric that any run has. The best of the `scored` runs are named if its direction is known, its
    values differ, and its split is not among the `different` ones.
    """
    rows = []
    for name in sorted({name for run in runs for name in run.metrics}):
        ranked = {run.run_id: value for run in scored if (value := run.metrics.get(name, math.nan)) == value}
        sign = 0 if ("val" if name == "value" else name.partition("/")[0]) in different else _sign(name, scored)
        top = max((sign * value for value in ranked.values()), default=0)
        best = [run_id for run_id, value in ranked.items() if sign * value == top]
        values = {run.run_id: run.metrics.get(name) for run in runs}
        rows.append({"name": name, "values": values, "best": best if sign and len(set(ranked.values())) > 1 else []})
    return rows


def _sign(name: str, runs: Sequence[RunSummary]) -> int:
    """Returns 1 if higher is better, -1 if lower is better, 0 if unknown; `value` is the monitored metric."""
    if name == "value":
        monitored = {run.params.get("trainer.monitor", "") for run in runs}
        name = monitored.pop() if len(monitored) == 1 else ""
    return sign_of(name)
