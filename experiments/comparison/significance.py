"""Tests whether one run, or one group of runs, is really better than another.

Only the best is tested, against the next few, which keeps the work linear; Holm's method corrects the p-values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifact_names import PREDICTIONS
from experiments.comparison.differences import Recorded
from experiments.comparison.groups import Group
from experiments.comparison.objective import Objective, Split
from experiments.comparison.statistics import (
    Comparison,
    compare_by_resampling,
    compare_on_images,
    holm,
    paired_t_test,
    welch_t_test,
)
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from lightning_modules.metrics import Answers

NEXT = 9  # how many runs or groups the best one is tested against
_NAMED = 5  # how many runs a note names


@dataclass(frozen=True)
class Tested:
    """One test, before the correction for several tests."""

    name: str
    between: tuple[str, str]  # run ids, or names of groups; the difference is the first's minus the second's
    found: Comparison
    more: Mapping[str, Any]


@dataclass(frozen=True)
class Predictions:
    """A run's answers on a split's N images: `label` and `target` (N,), `probabilities` (N, K)."""

    label: NDArray[np.int64]
    target: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        is_right: NDArray[np.bool_] = self.label == self.target
        return is_right


def read_predictions(artifacts: Artifacts, run: RunSummary, split: Split) -> Predictions | None:
    """Returns a run's predictions on a split; None if it has none that can be read."""
    path = artifacts.find(run, PREDICTIONS)
    try:
        if path is not None:
            with np.load(path, allow_pickle=False) as file:
                return Predictions(*(file[f"{split}_{name}"] for name in ("label", "target", "probabilities")))
    except (OSError, ValueError, KeyError):
        pass
    return None


def corrected(tests: Sequence[Tested]) -> list[dict[str, Any]]:
    """Returns the tests as rows of the document, with p-values corrected for all of them together."""
    p_values = holm([test.found.p_value for test in tests])
    return [
        {
            "name": test.name,
            "between": list(test.between),
            "difference": test.found.difference,
            "ci95": list(test.found.ci95),
            "p_value": p_value,
            "uncorrected_p_value": test.found.p_value,
            "distinguishable": test.found.is_distinguishable(p_value),
            **test.more,
        }
        for test, p_value in zip(tests, p_values, strict=True)
    ]


# Tests between runs, on the images that they labelled.


def image_tests(artifacts: Artifacts, runs: Sequence[Recorded], objective: Objective) -> tuple[list[Tested], list[str]]:
    """Tests the best run against the next ones, among runs that labelled the same images; returns tests and notes."""
    recorded = {each.run_id: each for each in runs}
    scored = [recorded[run.run_id] for run in objective.ranked(each.run for each in runs)]
    split = objective.split
    parts = same_images(scored, split)
    if objective.metric.name == "loss" and any(each.run.params.get("model.loss") != "cross_entropy" for each in scored):
        return [], ["losses other than cross_entropy are not compared image by image"]
    tests: list[Tested] = []
    notes: list[str] = []
    if unknown := [each.run for each in scored if each.provenance is None]:
        notes.append(f"not compared image by image, since the images are unknown: {_names(unknown)}")
    if len(parts) > 1:
        notes.append(f"not compared image by image, since their {_what_differs(parts, split)}")
    for part in parts:
        made, missing = _against_best(artifacts, [each.run for each in part], objective)
        tests += made
        notes += missing
        if len(part) > 2 and made:
            notes.append(_choice(part[0].run.name, len(made), len(part)))
    return tests, notes


def same_images(runs: Sequence[Recorded], split: Split) -> list[list[Recorded]]:
    """Splits the runs whose images are known into those that labelled the same images in the same order."""
    parts: dict[tuple[str | None, str], list[Recorded]] = {}
    for each in runs:
        if each.provenance is not None:
            parts.setdefault((each.data_sha256, each.provenance["split_sha256"][split]), []).append(each)
    return list(parts.values())


def _what_differs(parts: Sequence[Sequence[Recorded]], split: Split) -> str:
    what = "data" if len({part[0].data_sha256 for part in parts}) > 1 else f"{split} splits"
    return f"{what} differ: " + " | ".join(_names([each.run for each in part]) for part in parts)


def _names(runs: Sequence[RunSummary]) -> str:
    named = ", ".join(f"{run.name} ({run.run_id[:8]})" for run in runs[:_NAMED])
    return named + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")


def _choice(best: str, tested: int, of: int) -> str:
    return (
        f"tested: {best}, the best of {of}, against each of the next {tested}; it was chosen by the same scores, "
        "so part of its lead is luck: fresh seeds show how much"
    )


def _against_best(
    artifacts: Artifacts, runs: Sequence[RunSummary], objective: Objective
) -> tuple[list[Tested], list[str]]:
    if len(runs) < 2:
        return [], []
    few, split = runs[: 1 + NEXT], objective.split
    answers = {run.run_id: read_predictions(artifacts, run, split) for run in few}
    missing = [run for run in few if answers[run.run_id] is None]
    notes = [f"no predictions on {split} images to compare: {_names(missing)}"] if missing else []
    answered = [(run_id, predictions) for run_id, predictions in answers.items() if predictions is not None]
    test = _accuracy_test if objective.metric.name == "accuracy" else _resampling_test
    if not answered:
        return [], notes
    (best, best_answers), *others = answered
    return [test((best, run_id), best_answers, predictions, objective) for run_id, predictions in others], notes


def _accuracy_test(between: tuple[str, str], first: Predictions, second: Predictions, objective: Objective) -> Tested:
    one, other = first.is_right, second.is_right
    counts = {
        "images": len(one),
        "first_only": int(np.count_nonzero(one & ~other)),
        "second_only": int(np.count_nonzero(other & ~one)),
    }
    found = compare_on_images(counts["first_only"], counts["second_only"], counts["images"])
    name = f"exact McNemar test of {objective.logged}"
    return Tested(name, between, found, {"metric": objective.logged, **counts})


def _resampling_test(between: tuple[str, str], first: Predictions, second: Predictions, objective: Objective) -> Tested:
    import torch  # imported here, since most comparisons do not need it

    with np.errstate(divide="ignore"):
        both_2NK = np.log(np.stack([first.probabilities, second.probabilities]))

    def difference(chosen: NDArray[np.int64], is_swapped: NDArray[np.bool_]) -> float:
        own, others = is_swapped.astype(np.int64), 1 - is_swapped
        labels_N = torch.from_numpy(first.target[chosen])
        one, other = (Answers(torch.from_numpy(both_2NK[which, chosen]), labels_N) for which in (own, others))
        return float(objective.metric.compute(one)) - float(objective.metric.compute(other))

    found = compare_by_resampling(difference, len(first.target))
    more = {"metric": objective.logged, "images": len(first.target)}
    return Tested(f"randomization test of {objective.logged}", between, found, more)


# Tests between groups, over their seeds.


def seed_tests(groups: Sequence[Group], runs: Sequence[Recorded]) -> tuple[list[Tested], list[str]]:
    """Tests the best group against the next ones: Student's t-test paired by seed, or Welch's if the seeds differ.

    Returns tests and notes. `runs` holds the runs of the groups, and possibly others.
    """
    tested = [group for group in groups if len(group.runs) > 1]
    split = tested[0].objective.split
    grouped = {run.run_id for group in tested for run in group.runs}
    parts = same_images([each for each in runs if each.run_id in grouped], split)
    notes = [f"scores on different images are compared, since their {_what_differs(parts, split)}"] if parts[1:] else []
    if alone := len(groups) - len(tested):
        notes.append(
            f"{alone} of {len(groups)} groups have only one run and so no spread: they are not tested over seeds"
        )
    tests = [_over_seeds(tested[0], other) for other in tested[1 : 1 + NEXT]]
    if len(tested) > 2:
        notes.append(_choice(tested[0].name, len(tests), len(tested)))
    return tests, notes


def _over_seeds(first: Group, second: Group) -> Tested:
    is_paired = first.seeds == second.seeds and len(set(first.seeds)) == len(first.seeds)
    test, name = (paired_t_test, "Student's t-test, paired by seed,") if is_paired else (welch_t_test, "Welch's t-test")
    metric = first.objective.logged
    found = test(first.scores, second.scores)
    return Tested(f"{name} of {metric}", (first.name, second.name), found, {"metric": metric})
