"""A sweep's question: what each arm reached, and, before the start, which difference the budget can show."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from experiments.config import flatten
from experiments.tracking.runs import find_runs
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import as_param
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.errors import broken_limit
from sweeps.report.answer import Answer, ArmScores, answer
from sweeps.report.answer_text import can_show
from sweeps.report.rows import seconds
from sweeps.strategy.budget import counts
from sweeps.study.finalists import Finalist, read_test
from sweeps.study.search import Search

_OF_DATA = ("data.module", "data.source", "data.path", "data.labels_path")  # and their arguments
_NOTHING_KNOWN = (
    "The difference that this budget can show is not known yet: in this store, no runs on these data differ in their "
    "seeds alone."
)
_REPEATS_UNKNOWN = (
    "The difference that this budget can show is not known yet: it depends on how much repeats of the search differ."
)


def answer_of(search: Search, finalists: Sequence[Finalist], dataset: ImageDataset | None) -> Answer | None:
    """Returns the answer to the sweep's question; None if it has none. Reads test if the question is decided on it."""
    sweep = search.sweep
    if not sweep.has_question:
        return None
    question, metric = sweep.config.question, sweep.config.objective.metric
    if question.decide == "test":
        for finalist in finalists:
            if not finalist.is_baseline and finalist.has_all_scores:
                search.store.persist(partial(read_test, search.store, finalist, dataset))
    names = dict.fromkeys(arm.name for arm in sweep.arms)
    return answer(
        [_scores(search, name, finalists) for name in names],
        field=", ".join(question.fields) or "arms",
        sign=sweep.config.objective.sign,
        metric=sweep.decisive_metric,
        searched_metric=metric,
        repeats=question.repeats,
    )


def _scores(search: Search, name: str, finalists: Sequence[Finalist]) -> ArmScores:
    """Returns what an arm reached in all its repeats. With repeats, `values` has the mean of each."""
    sweep = search.sweep
    arms = [arm for arm in sweep.arms if arm.name == name]
    trials = [trial for trial in search.trials() if search.arm_of(trial) in arms]
    counted = [trial for trial in trials if counts(trial)]
    own = [finalist for arm in arms for finalist in finalists if (finalist.arm, finalist.repeat) == (name, arm.repeat)]
    values = [_values(search, finalist) for finalist in own]
    if len(arms) > 1:
        values = [[statistics.fmean(each) for each in values] + [math.nan] * (len(arms) - len(own))]
    best = max(own, key=lambda finalist: finalist.merit(sweep.config.objective.sign), default=None)
    return ArmScores(
        value=name,
        searched=[_searched(trial) for trial in counted],
        values=values[0] if own else [],
        run_ids=[run_id for finalist in own for run_id in finalist.run_ids],
        params={} if best is None else best.params,
        epochs=sum(len(trial.intermediate_values) for trial in counted),
        seconds=sum(seconds(trial) or 0.0 for trial in trials),
    )


def _values(search: Search, finalist: Finalist) -> list[float]:
    """Returns a finalist's scores by seed, on the split that decides: NaN where there is none."""
    if search.sweep.config.question.decide == "validation":
        return finalist.values
    if not finalist.has_all_scores or len(finalist.run_ids) < len(finalist.values):  # a run may have been deleted
        return [math.nan] * len(finalist.values)
    runs = [search.store.client.get_run(run_id) for run_id in finalist.run_ids]
    return [run.data.metrics.get(search.sweep.decisive_metric, math.nan) for run in runs]


def _searched(trial: FrozenTrial) -> float:
    """Returns a trial's score: of a pruned one the last, of one that failed or broke a limit none (NaN)."""
    is_limited = broken_limit(trial.user_attrs.get("error", ""))
    if trial.value is None or is_limited or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return math.nan
    return trial.value


def prospect(sweep: Sweep, store: Store | None) -> str:
    """Says which difference the sweep's question can show, from how much seeds differ in runs that the store has.

    `store`: None if there is none yet.
    """
    if sweep.config.question.repeats > 1:
        return _REPEATS_UNKNOWN
    spread = None if store is None else spread_of_seeds(store, sweep)
    arms, seeds = len(sweep.arms), sweep.config.finalists.seeds
    told = can_show(sweep.decisive_metric, spread * math.sqrt(2), seeds, arms) if spread else ""  # of a difference
    return told or _NOTHING_KNOWN


def spread_of_seeds(store: Store, sweep: Sweep) -> float | None:
    """Returns the standard deviation of the deciding score between runs that differ in nothing but their seeds.

    It is pooled over all such runs that the store has on the same data; None if there are none. A run that was repeated
    with its own seed counts once.
    """
    is_test = sweep.config.question.decide == "test"
    score = sweep.decisive_metric if is_test else "value"
    ours = {name: as_param(value) for name, value in flatten(sweep.base.as_recorded()).items()}
    ours = {name: text for name, text in ours.items() if name.startswith(_OF_DATA)}
    groups: dict[frozenset[tuple[str, str]], dict[str, float]] = defaultdict(dict)
    for kind in ("train", "repeat", "finalist"):
        clauses = ["tags.`workbench.outcome` = 'finished'", f"tags.`workbench.kind` = '{kind}'"]
        clauses.append(f"params.`trainer.monitor` = '{sweep.config.objective.metric}'")
        for run in find_runs(store, " and ".join(clauses)):
            params = dict(run.data.params)
            seed = params.pop("seed", "")
            theirs = {name: text for name, text in params.items() if name.startswith(_OF_DATA)}
            if ours | theirs == ours and (value := run.data.metrics.get(score)) is not None:
                groups[frozenset(params.items())][seed] = value
    several = [list(values.values()) for values in groups.values() if len(values) > 1]
    if not several:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in several)
    return math.sqrt(squares / sum(len(values) - 1 for values in several))
