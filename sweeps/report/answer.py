"""The answer to a sweep's question: which arm is better when all are tuned alike, and by how much.

Each arm's best configuration runs over the same fresh seeds, so that arms are compared by seed; or the whole search is
repeated, and they are compared by repeat. The page and the terminal only show what is here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.comparison.statistics import estimate
from experiments.estimates.expected_best import ExpectedBest, expected_best
from experiments.estimates.pairs import Pair, all_pairs
from experiments.estimates.power import seeds_to_show
from lightning_modules.metrics import bounds_of
from sweeps.report.answer_text import COVERS, Unit, budget_sentence, sentences


@dataclass(frozen=True, kw_only=True)
class ArmScores:
    """What an arm of a question reached."""

    value: str  # the arm's name, as shown
    searched: list[float]  # scores of its counted trials, in the order they began: NaN if failed, the last if pruned
    # Of its best configuration, by fresh seed: NaN if failed; empty if there is no configuration. If the search is
    # repeated: the mean over the fresh seeds, by repeat.
    values: list[float]
    run_ids: list[str]  # of the runs with fresh seeds
    params: Mapping[str, Any]  # the best configuration; empty if no trial completed
    epochs: int  # of the arm's search
    seconds: float  # of the arm's search


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm in the answer. `mean` and `ci95` are None if a seed failed, and `ci95` also if there is no spread."""

    value: str
    trials: int  # of all repeats
    failed: int  # of the trials
    mean: float | None
    ci95: tuple[float, float] | None
    values: list[float | None]  # None: that seed failed
    run_ids: list[str]
    params: dict[str, Any]
    epochs: int
    seconds: float
    best_searched: float | None  # the best score in the search, which is partly luck
    expected_best: list[ExpectedBest]  # up to the trials of one search


@dataclass(frozen=True, kw_only=True)
class ArmPair:
    """Two arms that have scores with all seeds, the one with the better mean first. See `all_pairs` of estimates."""

    between: tuple[str, str]
    difference: float  # first minus second
    ci95: tuple[float, float] | None  # None: one seed, or differences that are all equal
    confidence: float  # of the interval: 0.95 or more
    p_value: float  # corrected by Holm's method; 1 where there is no interval
    uncorrected_p_value: float
    distinguishable: bool
    differences: list[float]  # by seed
    seeds_needed: int | None  # seeds that show a difference as large as this; None: more than 1,000, or not known


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer, as it is in a sweep's JSON document under `question`."""

    field: str
    unit: Unit  # what each value is of
    repeats: int  # of the whole search; 1: it ran once
    metric: str  # of the fresh seeds
    searched_metric: str  # of the trials
    arms: list[Arm]  # the best mean first; those without a score for every seed last
    pairs: list[ArmPair]
    answer: str
    sentences: list[str]  # the answer, one by one
    budget: str  # whether it depends on the number of trials; empty if there is nothing to say
    covers: str  # what the intervals cover

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def answer(
    arms: Sequence[ArmScores],
    *,
    field: str,
    sign: int,
    metric: str,
    searched_metric: str | None = None,
    repeats: int = 1,
) -> Answer:
    """Returns the answer.

    `sign`: 1 if higher scores are better, -1 if lower ones are. `metric`: of the values over fresh seeds, by its logged
    name; `searched_metric`: of the trials, if it is another. `repeats`: how often the whole search ran; if more than
    once, a value is of one repeat, and not of one seed. An arm that failed with one of the seeds is not compared:
    to leave this seed out would favour it. All arms that have values have them for the same seeds or repeats.
    """
    rows = [_arm(arm, sign, metric, repeats) for arm in arms]
    unit: Unit = "repeat" if repeats > 1 else "seed"
    rows.sort(key=lambda row: math.inf if row.mean is None else -sign * row.mean)  # stable
    compared = [row for row in rows if row.mean is not None]
    values = [[value for value in row.values if value is not None] for row in compared]
    pairs = [_pair(pair, compared) for pair in all_pairs(values)]
    found = Answer(
        field=field,
        unit=unit,
        repeats=repeats,
        metric=metric,
        searched_metric=searched_metric or metric,
        arms=rows,
        pairs=pairs,
        answer="",
        sentences=[],
        budget="",
        covers=COVERS[unit],
    )
    document = found.as_dict()
    told = sentences(document, sign)
    return replace(found, answer=" ".join(told), sentences=told, budget=budget_sentence(document, sign))


def _arm(arm: ArmScores, sign: int, metric: str, repeats: int) -> Arm:
    has_all_scores = bool(arm.values) and all(map(math.isfinite, arm.values))
    score = estimate(arm.values).within(bounds_of(metric)) if has_all_scores else None
    scored = [value for value in arm.searched if math.isfinite(value)]
    of_one = len(arm.searched) // repeats  # trials in one search
    return Arm(
        value=arm.value,
        trials=len(arm.searched),
        failed=len(arm.searched) - len(scored),
        mean=None if score is None else score.mean,
        ci95=None if score is None else score.ci95,
        values=[value if math.isfinite(value) else None for value in arm.values],
        run_ids=list(arm.run_ids),
        params=dict(arm.params),
        epochs=arm.epochs,
        seconds=arm.seconds,
        best_searched=sign * max(sign * value for value in scored) if scored else None,
        expected_best=[each for each in expected_best(arm.searched, sign) if each.trials <= of_one],
    )


def _pair(pair: Pair, arms: Sequence[Arm]) -> ArmPair:
    return ArmPair(
        between=(arms[pair.first].value, arms[pair.second].value),
        difference=pair.found.difference,
        ci95=pair.found.ci95 if pair.has_interval else None,
        confidence=pair.confidence,
        p_value=pair.p_value,
        uncorrected_p_value=pair.found.p_value,
        distinguishable=pair.distinguishable,
        differences=pair.differences,
        seeds_needed=seeds_to_show(pair.found.difference, pair.spread, len(arms)) if pair.has_interval else None,
    )
