"""Compares runs: what differs between them, how their scores differ, and whether that difference is real."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from experiments.code.scratch import scratch_folder
from experiments.comparison import details
from experiments.comparison.comparable import cannot_be_compared, different_images, without_score
from experiments.comparison.differences import differences, does_differ, read_provenances
from experiments.comparison.groups import Group, failed_repeats, group_by_param, group_by_seed
from experiments.comparison.objective import Objective, objective_of
from experiments.comparison.page import parts_of
from experiments.comparison.robustness import robustness
from experiments.comparison.side_by_side import side_by_side
from experiments.comparison.significance import NEXT, Found, corrected, image_tests, seed_tests
from experiments.dashboard.links import compare_url
from experiments.notebook import Shown
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary, find_sweep, resolve, with_repeats
from experiments.tracking.store import Store
from lightning_modules.metrics import sign_of

Document = dict[str, Any]


class Compared(Document, Shown):
    """A comparison as the command line's JSON document. A notebook shows it as a page without pictures."""

    def html_parts(self) -> list[str]:
        return parts_of(self)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each run, the best first: its name, its score, and the params that differ."""
        runs = {run["run_id"]: run["name"] for run in self["runs"]}
        scores = {place["run_id"]: place["score"] for place in self["ranking"]}
        differing = [row for row in self["differences"] if row["kind"] == "param"]
        for run_id in dict.fromkeys([*scores, *runs]):
            params = {row["field"]: row["values"].get(run_id) for row in differing}
            yield {"run_id": run_id, "name": runs[run_id], self["metric"]: scores.get(run_id), **params}


def compare(
    store: Store,
    runs: Sequence[RunSummary | str],
    *,
    group_by: str | None = None,
    show_all: bool = False,
    sweeps: Sequence[str] = (),
) -> Compared:
    """Compares runs; a text among them is a RUN argument of the command line. Repeats are compared as a group.

    Returns `runs`, and:

    - `differences`: rows {field, kind, values{run_id: value}}; with `show_all` also of the fields that are equal;
    - `metrics`: rows {name, values{run_id: value}, best: [run_id]}; a run without a score is never the best, nor is one
      of several that saw different images;
    - `metric`: the metric that runs are ranked and tested by; `ranking`: [{run_id, score}], best first;
    - `groups`, if runs are grouped by a param, or some differ only in the seed, or are repeats: {name, run_ids, metric,
      values, mean, sd, ci95, overlap (n_val / n_train of a cross-validation)};
    - `tests`: {name, metric, between, difference, ci95, p_value, uncorrected_p_value, distinguishable}: between groups
      over their seeds if at least two have several runs, else between runs on the images that they labelled;
    - `other_tests`: the same by every other metric, of the best run or group against the next;
    - `curves`: the scores over the epochs of the best runs (`details.curves`);
    - `answers`: what the two runs of the first test, or the first seeds of its groups, answered (`details.answers`);
    - `robustness`: the same two on corrupted images, if both have been evaluated (`robustness.py`);
    - `notes`: one sentence for each thing that could not be compared, with the reason;
    - `sweeps`: if two or more are named, a row for each (`side_by_side.py`);
    - `dashboard_url`: MLflow's own comparison of these runs.

    Raises InputError if no run has the param `group_by`, or if there is no such run or sweep.
    """
    found_runs = (resolve(store, run) if isinstance(run, str) else [run] for run in runs)
    unique = list({run.run_id: run for found in found_runs for run in with_repeats(store, found)}.values())
    named = [RunSummary.of(find_sweep(store, name)) for name in sweeps] if len(sweeps) > 1 else []
    beside = [run for run in named if run.kind == "sweep"]
    return _compare(store, unique, group_by, show_all, beside)


def _compare(
    store: Store, runs: Sequence[RunSummary], group_by: str | None, show_all: bool, sweeps: Sequence[RunSummary]
) -> Compared:
    objective, doubts = objective_of(runs)
    with scratch_folder(store.folder / "scratch") as scratch:
        artifacts = Artifacts(store, scratch)
        recorded = read_provenances(artifacts, runs)
        rows, notes = differences(artifacts, recorded)
        groups = group_by_param(runs, group_by, objective) if group_by else group_by_seed(runs, rows, objective)
        with_seeds = [group for group in groups if len(group.runs) > 1]
        found = seed_tests(groups, recorded) if len(with_seeds) > 1 else image_tests(artifacts, recorded, objective)
        of_group = {group.name: [run.run_id for run in group.runs] for group in with_seeds}
        by_id = {each.run_id: each for each in recorded}
        pair = [by_id[of_group.get(each, [each])[0]] for each in found.tests[0].between] if found.tests else []
        answered = details.answers(artifacts, pair, objective.split) if pair else None
        beside, unread = side_by_side(artifacts, sweeps)
        rivals = {name: of_group.get(name, [name]) for name in _rivals(found, runs)}
        robust, doubtful = robustness(artifacts, rivals)
        curves = details.curves(artifacts, _drawn(objective, runs, with_seeds))
    scored = [each for each in recorded if objective.score(each.run) is not None]
    different = different_images(scored)
    told = {"train", objective.split} if len(with_seeds) > 1 else {"train"}  # tests over seeds have their own note
    if with_seeds and all(group.has_folds for group in with_seeds):
        told.add("val")  # as each fold is to be
    return Compared(
        runs=[run.as_dict() for run in runs],
        differences=[row for row in rows if show_all or does_differ(row)],
        metrics=_metrics([each.run for each in scored], runs, different),
        metric=objective.logged,
        ranking=[{"run_id": run.run_id, "score": objective.score(run)} for run in objective.ranked(runs)],
        groups=[group.as_dict() for group in (groups if group_by else with_seeds)],
        tests=corrected(found.tests),
        other_tests=corrected(found.others),
        notes=[
            *without_score(runs, objective),
            *_no_mean(failed_repeats(runs, objective).values()),
            *cannot_be_compared(different, told),
            *doubts,
            *notes,
            *found.notes,
            *unread,
            *doubtful,
        ],
        curves=curves,
        sweeps=beside,
        answers=answered,
        robustness=robust,
        dashboard_url=compare_url(store, sorted({run.experiment_id for run in runs}), [run.run_id for run in runs]),
    )


def _no_mean(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield f"{name} has no mean, since one of its runs failed and the mean of the others would be too good"


def _rivals(found: Found, runs: Sequence[RunSummary]) -> Sequence[str]:
    """Returns the ids or names of the two that are compared first; of two runs, these, even if there is no test."""
    if found.tests:
        return found.tests[0].between
    return [run.run_id for run in runs] if len(runs) == 2 else []


def _drawn(objective: Objective, runs: Sequence[RunSummary], groups: Sequence[Group]) -> list[RunSummary]:
    """Returns the runs whose curves are shown: those of the best groups, or the best ones."""
    if groups:
        return [run for group in groups[: 1 + NEXT] for run in group.runs]
    return (objective.ranked(runs) or list(runs))[: 1 + NEXT]


def _metrics(
    scored: Sequence[RunSummary], runs: Sequence[RunSummary], different: Collection[str]
) -> list[dict[str, Any]]:
    """Returns every metric that any run has, with the best of the `scored` runs.

    There is a best one if the metric's direction is known, its values differ, and its split is none of `different`.
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
