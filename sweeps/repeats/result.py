"""The result of repeats: each run's score, and their mean with its interval, on validation data and on test."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlflow.entities import Run

from experiments.comparison.curves import mean_curve
from experiments.comparison.statistics import Estimate
from experiments.dashboard.links import run_url, within
from experiments.notebook import Link, Shown, link, paragraph, table
from experiments.tracking.runs import children
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules.metrics import Direction, bounds_of, of_test, on_test
from lightning_modules.showable import in_markdown
from sweeps.repeats.plan import is_cross_validation, seed_of
from sweeps.repeats.stage import Repeats
from sweeps.report.leaderboard import as_text
from sweeps.report.rows import curve
from sweeps.study.stage import ATTEMPT
from sweeps.study.storage import id_of

_NAMED = 5  # runs without a score

Score = dict[str, Any]  # mean and ci95; both None if a run has no score


@dataclass(frozen=True, kw_only=True)
class RepeatsResult(Shown):
    """The state of repeats. `as_dict` gives the command's `--json` document and the artifact `repeats.json`."""

    # In order of seed or fold: run_id, seed, fold (None if not folds), value, outcome, error, and test: the scores on
    # test by name. The run_id is None, and the outcome `waiting`, of a run that was not begun.
    runs: list[dict[str, Any]]
    mean: float | None  # None if a run has no value
    ci95: tuple[float, float] | None
    parent_run_id: str
    name: str
    by: Literal["seeds", "folds"]
    metric: str
    direction: Direction
    test: dict[str, Score]  # of every metric that all runs logged on test
    overlap: float  # n_val / n_train, by which intervals over folds are corrected; otherwise 0
    curve: list[dict[str, float]] = field(default_factory=list)  # epoch, mean, low, high; of epochs that all reached
    dashboard_url: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def html_parts(self) -> list[str]:
        columns = (self.by[:-1], self.metric, *self.test, "outcome", "run")
        rows = [
            [*_cells(self, run), run["outcome"], Link(run["run_id"][:8], run["url"]) if run["run_id"] else ""]
            for run in self.runs
        ]
        return [*map(paragraph, sentences(self.as_dict())), table(columns, rows), link("In MLflow", self.dashboard_url)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each run, with its scores on test under their own names."""
        for run in self.runs:
            yield {name: value for name, value in run.items() if name != "test"} | run["test"]


def _cells(result: RepeatsResult, run: Mapping[str, Any]) -> list[Any]:
    which = run["seed"] if result.by == "seeds" else run["fold"]
    return [which, run["value"], *(run["test"].get(name) for name in result.test)]


def gather(stage: Repeats, tracked: TrackedRun) -> RepeatsResult:
    """Returns the result so far of repeats whose own run is `tracked`."""
    repeats, metric = stage.sweep, stage.sweep.config.objective.metric
    trials = stage.of_slots(stage.trials())
    found = {run.data.tags.get(ATTEMPT): run for run in children(stage.store, tracked.run_id, {})}
    runs: list[dict[str, Any]] = []
    for slot, trial in enumerate(trials):
        run = None if trial is None else found.get(str(id_of(trial)))
        runs.append(
            {
                "run_id": run and run.info.run_id,
                "seed": seed_of(repeats, slot),
                "fold": slot if is_cross_validation(repeats) else None,
                "value": trial and trial.value,
                "outcome": "waiting" if trial is None else trial.user_attrs.get("outcome", "running"),
                "error": "" if trial is None else trial.user_attrs.get("error", ""),
                "test": {} if run is None else _test_scores(run),
                "url": run and run_url(stage.store, tracked.experiment_id, run.info.run_id),
            }
        )
    names = [name for name in runs[0]["test"] if all(name in run["test"] for run in runs)]
    value = _score(stage, metric, [run["value"] for run in runs])
    curves = [[(int(epoch), value) for epoch, value in curve(trial)] for trial in trials if trial is not None]
    has_all = len(curves) == len(trials)
    return RepeatsResult(
        name=repeats.name,
        parent_run_id=tracked.run_id,
        by="folds" if is_cross_validation(repeats) else "seeds",
        metric=metric,
        direction=repeats.config.objective.direction,
        runs=runs,
        mean=value["mean"],
        ci95=value["ci95"],
        test={name: _score(stage, name, [run["test"][name] for run in runs]) for name in names},
        overlap=stage.overlap,
        curve=_rows(mean_curve(curves, overlap=stage.overlap), bounds_of(metric)) if has_all else [],
        dashboard_url=run_url(stage.store, tracked.experiment_id, tracked.run_id),
    )


def _test_scores(run: Run) -> dict[str, float]:
    return {name: value for name, value in sorted(run.data.metrics.items()) if of_test(name)}


def _score(stage: Repeats, metric: str, values: Sequence[float | None]) -> Score:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):  # a mean of the others would be too good: what failed is left out
        return {"mean": None, "ci95": None}
    return asdict(stage.estimate(known).within(bounds_of(metric)))


def _rows(means: Mapping[int, Estimate], bounds: tuple[float, float]) -> list[dict[str, float]]:
    rows = []
    for epoch, each in means.items():
        low, high = each.within(bounds).ci95 or (each.mean, each.mean)
        rows.append({"epoch": epoch, "mean": each.mean, "low": low, "high": high})
    return rows


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Returns the result in sentences. `document`: `RepeatsResult.as_dict`."""
    runs, metric = document["runs"], document["metric"]
    ended = [run for run in runs if run["value"] is not None]
    without = [run for run in runs if run["value"] is None]
    if without:
        lacks = ", ".join(f"{_which(document, run)} {run['outcome']}" for run in without[:_NAMED])
        more = f" and {len(without) - _NAMED} more" if without[_NAMED:] else ""
        return [f"{len(ended)} of {len(runs)} {document['by']} gave a score, so there is no mean: {lacks}{more}."]
    over = f"over {len(runs)} {document['by']}"
    told = [f"{metric} {as_text(document)} {over}."]
    told += [f"{name} {as_text(score)} {over}." for name, score in document["test"].items() if name == on_test(metric)]
    if document["ci95"] is None:
        told.append("All values are equal, which is too few to tell how much the next one may differ.")
    elif document["overlap"]:
        told.append("The folds share training images: intervals have Nadeau and Bengio's correction.")
    return told


def _which(document: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    return f"seed {run['seed']}" if document["by"] == "seeds" else f"fold {run['fold']}"


def description(document: Mapping[str, Any]) -> str:
    """Returns what MLflow shows of the run of repeats, in Markdown."""
    columns = [document["by"][:-1], document["metric"], *document["test"], "run"]
    lines = [f"| {' | '.join(map(in_markdown, columns))} |", f"|{'---|' * len(columns)}"]
    for run in document["runs"]:
        numbers = [run["value"], *(run["test"].get(name) for name in document["test"])]
        to_run = f"[{run['run_id'][:8]}]({within(run['url'])})" if run["run_id"] else run["outcome"]
        cells = [str(run["seed" if document["by"] == "seeds" else "fold"]), *map(_number, numbers), to_run]
        lines.append(f"| {' | '.join(cells)} |")
    means = [document, *document["test"].values()]
    lines.append(f"| mean | {' | '.join(as_text(each) if each['mean'] is not None else '' for each in means)} | |")
    return "\n\n".join([in_markdown(" ".join(sentences(document))), "\n".join(lines)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
