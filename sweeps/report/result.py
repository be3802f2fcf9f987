"""The result of a sweep as a JSON document: trials, finalists, champion."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

from experiments.artifact_names import MODEL
from experiments.comparison.statistics import Estimate, estimate, paired_difference
from experiments.config import flatten
from experiments.dashboard.links import run_url, view_url
from experiments.dashboard.views import finalists_key
from experiments.notebook import Shown, heading, link
from experiments.tracking.runs import children
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules.metrics import METRICS, Direction, bounds_of, of_test
from sweeps.config import Sweep
from sweeps.report.answer import Answer
from sweeps.report.audit import audit
from sweeps.report.importance import importance
from sweeps.report.page import result_parts, trials_table
from sweeps.report.registered import address
from sweeps.report.rows import curve, seconds, trial_row
from sweeps.strategy.budget import counts
from sweeps.strategy.space import Parameter
from sweeps.study.finalists import Finalist
from sweeps.study.search import Search
from sweeps.study.stage import Stage, best_first

_SHOWN = 20  # trials in a notebook


@dataclass(frozen=True, kw_only=True)
class SweepResult(Shown):
    """The state of a sweep. `as_dict` gives the command's `--json` document and the artifact `leaderboard.json`."""

    sweep: str
    sweep_run_id: str
    study: str
    target: int | None  # trials in total; None if only hours or no_improvement end the search
    metric: str
    direction: Direction
    space: list[dict[str, Any]]  # the searched fields: path, and choices, or low, high and log
    # In order: number, state, outcome, value, params, run_id, seed, started, seconds, worker, error, and curve: the
    # objective after each epoch, as [epoch, value].
    trials: list[dict[str, Any]]
    best: dict[str, Any] | None  # the best single trial: number, value, params, run_id
    # Best mean first: number, params, mean, ci95, and for each seed values, run_ids, seconds, curves. With a question,
    # trials and finalists also have their arm and repeat (from 0).
    finalists: list[dict[str, Any]]
    # The configuration with the best mean: number (None: the recipe's own settings), run_ids, test_accuracy and every
    # other metric as test_NAME, model (None if it has none). None if no configuration has a score for every seed.
    champion: dict[str, Any] | None
    # The second finalist: number; first minus second: difference, ci95, distinguishable. None with a question, whose
    # answer says more.
    runner_up: dict[str, Any] | None
    # The recipe's own settings over the finalists' seeds: params, mean, ci95, values, run_ids. difference and
    # difference_ci95: the first finalist's mean minus this mean; None if one of the two lacks a score.
    baseline: dict[str, Any] | None
    # The best trial's value compared with its configuration's mean over two or more seeds: number, value, mean, luck.
    luck: dict[str, Any] | None
    question: Answer | None  # the answer to the sweep's question, if it has one
    importance: dict[str, Any]  # fields: path, share, ci95, most important first; reason: why there are none
    audit: list[dict[str, str]]  # what speaks against the result: finding, field, remedy (YAML for the recipe)
    commands: list[list[str]]  # lines to paste: what each does, and the line
    # While the sweep runs: the stage (search or finalists) and how many of its trials have ended, run, and are wanted
    # in all (None: not known): stage, ended, running, target. Then nothing else but best and trials is given.
    so_far: dict[str, Any] | None
    dashboard_url: str  # the page of the sweep's run
    trials_url: str  # its trials as charts
    finalists_url: str  # its finalists as a table, one row a configuration

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def html_parts(self) -> list[str]:
        document = self.as_dict()
        links = {
            "Trials as charts": self.trials_url,
            "Finalists by configuration": self.finalists_url,
            "Report": self.dashboard_url,
        }
        shown = [*result_parts(document), heading("Trials"), trials_table(document, _SHOWN)]
        return [*shown, *(link(text, url) for text, url in links.items())]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each trial, with its params under their own names."""
        for trial in self.trials:
            yield {name: value for name, value in trial.items() if name != "params"} | trial["params"]


def gather(
    search: Search,
    tracked: TrackedRun,
    finalists: list[Finalist],
    champion: Finalist | None,
    *,
    so_far: dict[str, Any] | None = None,
    question: Answer | None = None,
) -> SweepResult:
    """Returns the result of a sweep whose own run is `tracked`.

    `finalists` come from `Finals.finalists`: best first, the recipe's own settings last. `so_far`: if the sweep runs.
    `question`: the answer to the sweep's question, if it has one.
    """
    store, sweep = search.store, search.sweep
    baseline = next((each for each in finalists if each.is_baseline), None)
    finalists = [each for each in finalists if not each.is_baseline]
    found = search.trials()  # read once: others may end meanwhile
    trials = _trials(search, found)
    best = next(iter(best_first(found, sweep.config.objective.sign)), None)
    result = SweepResult(
        sweep=sweep.name,
        sweep_run_id=tracked.run_id,
        study=search.study.study_name,
        target=sweep.target,
        metric=sweep.config.objective.metric,
        direction=sweep.config.objective.direction,
        space=[_as_field(parameter) for parameter in sweep.space.parameters],
        trials=trials,
        best={name: trials[best.number][name] for name in ("number", "value", "params", "run_id")} if best else None,
        finalists=[_as_row(sweep, finalist) for finalist in finalists],
        champion=_champion(store, sweep, champion) if champion else None,
        runner_up=_runner_up(*finalists[:2]) if len(finalists) > 1 and not sweep.has_question else None,
        baseline=_baseline(sweep, baseline, finalists[0]) if baseline else None,
        luck=_luck(best, finalists, sweep.config.objective.sign) if best else None,
        question=question,
        so_far=so_far,
        importance=_importance(search, so_far),
        audit=[],
        commands=list(_commands(store, sweep, champion)),
        dashboard_url=run_url(store, tracked.experiment_id, tracked.run_id),
        trials_url=view_url(store, tracked.experiment_id, tracked.run_id, charts=True),
        finalists_url=view_url(store, tracked.experiment_id, finalists_key(tracked.run_id)),
    )
    return result if so_far else replace(result, audit=audit(result.as_dict()))


def _importance(search: Search, so_far: dict[str, Any] | None) -> dict[str, Any]:
    if so_far is None and not search.sweep.has_question:
        return importance(search.study)
    return {"fields": [], "reason": "each arm had a search of its own" if so_far is None else "the sweep still runs"}


def _commands(store: Store, sweep: Sweep, champion: Finalist | None) -> Iterator[list[str]]:
    """Yields what can be done with the sweep, and the line that does it."""
    if champion is not None:
        which = f"{sweep.name}:champion" if len(champion.run_ids) > 1 else champion.run_ids[0][:8]
        yield ["Run the best again, and see whether it is the same:", store.command("reproduce", which)]
        yield ["Label pictures of yours with it:", store.command("predict", which, "FILE")]
        yield ["See how calibrated and how robust it is:", store.command("evaluate", which)]
        yield ["Let it answer over HTTP:", store.command("serve", which)]
    yield ["Compare all trials and finalists:", store.command("compare", f"{sweep.name}:all")]
    yield ["See the runs in MLflow:", store.command("ui")]


def so_far(stage: Stage) -> dict[str, Any]:
    """Returns how far a sweep is, in the stage that runs."""
    name = "search" if stage.kind == "trial" else "finalists"
    running, target = len(stage.running()), stage.target
    return {"stage": name, "ended": sum(map(counts, stage.trials())), "running": running, "target": target}


def _trials(search: Search, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Returns the trials in order, each with the id of its MLflow run."""
    runs = children(search.store, search.sweep_run_id, {"workbench.kind": "trial"})
    run_ids = {int(run.data.tags["workbench.trial"]): run.info.run_id for run in runs}
    return [trial_row(trial, run_ids.get(trial.number)) for trial in trials]


def _as_field(parameter: Parameter) -> dict[str, Any]:
    if parameter.choices:
        return {"path": parameter.path, "choices": list(parameter.choices)}
    return {"path": parameter.path, "low": parameter.low, "high": parameter.high, "log": parameter.log}


def _as_row(sweep: Sweep, finalist: Finalist) -> dict[str, Any]:
    """Returns a finalist as JSON, which has no NaN: a diverged seed's value and its finalist's mean become None."""
    bounds = bounds_of(sweep.config.objective.metric)
    score = asdict(finalist.score.within(bounds)) if finalist.has_all_scores else {"mean": None, "ci95": None}
    values = [value if math.isfinite(value) else None for value in finalist.values]
    arm = {"arm": finalist.arm, "repeat": finalist.repeat} if finalist.arm else {}
    return arm | {
        "number": finalist.number,
        "params": finalist.params,
        **score,
        "values": values,
        "run_ids": finalist.run_ids,
        "seconds": [trial and seconds(trial) for trial in finalist.trials],
        "curves": [curve(trial) if trial else [] for trial in finalist.trials],
    }


def _champion(store: Store, sweep: Sweep, champion: Finalist) -> dict[str, Any]:
    """Returns the champion's test scores, and the name of its model in MLflow's registry."""
    metrics = [store.client.get_run(run_id).data.metrics for run_id in champion.run_ids]
    names = [*METRICS, *(metric.name for metric in sweep.base.trainer.own_metrics())]
    if sweep.base.model.module is not None:
        names = sorted({of_test(name) for each in metrics for name in each} - {""})
    has_model = bool(store.client.list_artifacts(champion.run_ids[0], MODEL))
    return {
        "number": None if champion.is_baseline else champion.number,
        "run_ids": champion.run_ids,
        **{f"test_{name}": _on_test(name, metrics) for name in names},
        "model": address(sweep) if has_model else None,
    }


def _on_test(name: str, metrics: list[dict[str, float]]) -> dict[str, Any] | None:
    """Returns a test metric's mean over the champion's seeds; None if an earlier version did not log it."""
    values = [value for each in metrics for logged, value in each.items() if of_test(logged) == name]
    return asdict(estimate(values).within(bounds_of(f"test/{name}"))) if len(values) == len(metrics) else None


def _runner_up(first: Finalist, second: Finalist) -> dict[str, Any] | None:
    """Compares the second finalist with the first; returns None if one of them lacks a score."""
    difference = _difference(first, second)
    if difference is None:
        return None
    return {
        "number": second.number,
        "difference": difference.mean,
        "ci95": difference.ci95,
        "distinguishable": difference.is_clear_of_zero,
    }


def _baseline(sweep: Sweep, baseline: Finalist, first: Finalist) -> dict[str, Any]:
    """Returns the recipe's own settings with their scores, and the first finalist's difference from them.

    There is none if the finalist has other seeds, as those of a search that was repeated have.
    """
    base = flatten(sweep.base.tree())
    params = {parameter.path: base.get(parameter.path) for parameter in sweep.space.parameters}
    difference = _difference(first, baseline) if first.repeat == baseline.repeat else None
    row = _as_row(sweep, baseline) | {
        "params": params,
        "difference": difference and difference.mean,
        "difference_ci95": difference and difference.ci95,
    }
    del row["number"]
    return row


def _difference(first: Finalist, second: Finalist) -> Estimate | None:
    """Returns the mean difference of two finalists, paired by seed; None if one of them lacks a score."""
    return paired_difference(first.values, second.values) if first.has_all_scores and second.has_all_scores else None


def _luck(best: FrozenTrial, finalists: list[Finalist], sign: int) -> dict[str, Any] | None:
    """Returns the luck in the best trial's value: the value minus the mean over fresh seeds.

    The trial was chosen because its value was high; fresh seeds were not chosen. Returns None with only one fresh seed,
    which may be lucky itself.
    """
    again = next((each for each in finalists if each.number == best.number and each.has_all_scores), None)
    if again is None or len(again.values) < 2 or best.value is None:
        return None
    luck = sign * (best.value - again.score.mean)  # above 0: the trial looked better than it is
    return {"number": best.number, "value": best.value, "mean": again.score.mean, "luck": luck}
