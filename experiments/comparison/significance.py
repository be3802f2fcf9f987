"""Tests whether one run, or one group of runs, is really better than another.

Only the best is tested, against the next few, which keeps the work linear; Holm's method corrects the p-values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifact_names import PREDICTIONS
from experiments.comparison.comparable import names, same_images, what_differs
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

_Fold = tuple[str | None, str | None, str | None]  # digests of a run's data, of its train split and of its val split

NEXT = 9  # how many runs or groups the best one is tested against


@dataclass(frozen=True)
class Tested:
    """One test, before the correction for several tests."""

    name: str
    between: tuple[str, str]  # run ids, or names of groups; the difference is the first's minus the second's
    found: Comparison
    more: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """The tests of a comparison."""

    tests: list[Tested] = field(default_factory=list)  # by the objective: the best against each of the next
    others: list[Tested] = field(default_factory=list)  # by every other metric that is known: the best against the next
    notes: list[str] = field(default_factory=list)


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


def image_tests(artifacts: Artifacts, runs: Sequence[Recorded], objective: Objective) -> Found:
    """Tests the best run against the next ones, among runs that labelled the same images."""
    recorded = {each.run_id: each for each in runs}
    scored = [recorded[run.run_id] for run in objective.ranked(each.run for each in runs)]
    if objective.of_own_task:
        what = f"only the runs' own modules can compute {objective.logged} of single samples"
        return Found(notes=[f"{what}: runs are compared without a test; several seeds of each allow one"])
    if objective.metric.name == "loss" and not _have_cross_entropy([each.run for each in scored]):
        return Found(notes=["losses other than cross_entropy are not compared image by image"])
    found = Found()
    if unknown := [each.run for each in scored if each.provenance is None]:
        found.notes.append(f"not compared image by image, since the images are unknown: {names(unknown)}")
    for part in same_images(scored, objective.split):
        tests, others, missing = _against_best(artifacts, part, objective)
        found.tests.extend(tests)
        found.others.extend(others)
        found.notes.extend(missing)
        if len(part) > 2 and tests:
            found.notes.append(_choice(part[0].run.name, len(tests), len(part)))
    return found


def _others(objective: Objective, runs: Sequence[RunSummary]) -> list[Objective]:
    """Returns the other metrics that mean the same for all runs."""
    return [each for each in objective.others() if each.metric.name != "loss" or _have_cross_entropy(runs)]


def _have_cross_entropy(runs: Sequence[RunSummary]) -> bool:
    return all(run.params.get("model.loss") == "cross_entropy" for run in runs)


def _choice(best: str, tested: int, of: int) -> str:
    return (
        f"tested: {best}, the best of {of}, against each of the next {tested}; it was chosen by the same scores, "
        "so part of its lead is luck: fresh seeds show how much"
    )


def _against_best(
    artifacts: Artifacts, part: Sequence[Recorded], objective: Objective
) -> tuple[list[Tested], list[Tested], list[str]]:
    """Returns the tests by the objective, those by the other metrics, and notes."""
    if len(part) < 2:
        return [], [], []
    few, split = [each.run for each in part[: 1 + NEXT]], objective.split
    answers = {run.run_id: read_predictions(artifacts, run, split) for run in few}
    missing = [run for run in few if answers[run.run_id] is None]
    notes = [f"no predictions on {split} images to compare: {names(missing)}"] if missing else []
    answered = [(run_id, predictions) for run_id, predictions in answers.items() if predictions is not None]
    if len(answered) < 2:
        return [], [], notes
    (best, own), *rest = answered
    tests = [_image_test((best, run_id), own, predictions, objective) for run_id, predictions in rest]
    others = [_image_test((best, rest[0][0]), own, rest[0][1], other) for other in _others(objective, few)]
    return tests, others, notes


def _image_test(between: tuple[str, str], first: Predictions, second: Predictions, objective: Objective) -> Tested:
    test = accuracy_test if objective.metric.name == "accuracy" else _resampling_test
    return test(between, first, second, objective)


def accuracy_test(between: tuple[str, str], first: Predictions, second: Predictions, objective: Objective) -> Tested:
    """Tests two runs by the images that only one of them labels rightly."""
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

    terms, of_means = objective.metric.terms, objective.metric.of_means
    assert terms is not None

    def terms_of(predictions: Predictions) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            logits_NK = torch.from_numpy(np.log(predictions.probabilities))
        found: NDArray[np.float64] = terms(Answers(logits_NK, torch.from_numpy(predictions.target))).numpy()
        return found

    def score(means_D: NDArray[np.float64]) -> float:
        return float(of_means(torch.from_numpy(means_D)))

    found = compare_by_resampling(terms_of(first), terms_of(second), score)
    more = {"metric": objective.logged, "images": len(first.target)}
    return Tested(f"randomization test of {objective.logged}", between, found, more)


# Tests between groups, over their seeds.


def seed_tests(groups: Sequence[Group], runs: Sequence[Recorded]) -> Found:
    """Tests the best group against the next ones: Student's t-test paired by seed, or Welch's if the seeds differ.

    The folds of two cross-validations are paired if both have the same. `runs` holds the runs of the groups, and
    possibly others.
    """
    tested = [group for group in groups if len(group.runs) > 1]
    split = tested[0].objective.split
    recorded = {each.run_id: each for each in runs}
    parts = same_images([recorded[run.run_id] for group in tested for run in group.runs], split)
    folds = {run_id: _of_fold(each) for run_id, each in recorded.items()}
    same_folds = all(group.has_folds for group in tested) and len({_in_order(group, folds) for group in tested}) == 1
    are_same = len(parts) < 2 or same_folds
    notes = [] if are_same else [f"scores on different images are compared, since {what_differs(parts, split)}"]
    if alone := len(groups) - len(tested):
        notes.append(
            f"{alone} of {len(groups)} groups have only one run and so no spread: they are not tested over seeds"
        )
    tests = [_over_seeds(tested[0], other, folds) for other in tested[1 : 1 + NEXT]]
    if len(tested) > 2:
        notes.append(_choice(tested[0].name, len(tests), len(tested)))
    return Found(tests, _others_over_seeds(tested[:2], folds), notes)


def _others_over_seeds(groups: Sequence[Group], folds: Mapping[str, _Fold]) -> list[Tested]:
    """Tests two groups by the other metrics. Those on val are of the last epoch, and not of the best weights."""
    objective, runs = groups[0].objective, [run for group in groups for run in group.runs]
    if objective.split == "val" and any(run.params.get("trainer.weights") == "best" for run in runs):
        return []
    pairs = [[replace(group, objective=other) for group in groups] for other in _others(objective, runs)]
    return [
        _over_seeds(first, second, folds) for first, second in pairs if first.has_all_scores and second.has_all_scores
    ]


def _over_seeds(first: Group, second: Group, folds: Mapping[str, _Fold]) -> Tested:
    """Tests two groups. `folds`: of each run."""
    places, metric, overlaps = first.places, first.objective.logged, (first.overlap, second.overlap)
    is_paired = places == second.places and len(set(places)) == len(places)
    if first.has_folds or second.has_folds:
        is_paired = is_paired and _in_order(first, folds) == _in_order(second, folds)
        kind, by = "Nadeau and Bengio's corrected t-test", "fold"
    else:
        kind, by = "Student's t-test" if is_paired else "Welch's t-test", "seed"
    if is_paired:
        name, found = f"{kind}, paired by {by},", paired_t_test(first.scores, second.scores, overlap=overlaps[0])
    else:
        name, found = kind, welch_t_test(first.scores, second.scores, overlaps=overlaps)
    return Tested(f"{name} of {metric}", (first.name, second.name), found, {"metric": metric})


def _in_order(group: Group, folds: Mapping[str, _Fold]) -> tuple[_Fold, ...]:
    return tuple(folds[run.run_id] for run in group.runs)


def _of_fold(run: Recorded) -> _Fold:
    splits = (run.provenance or {}).get("split_sha256", {})
    return run.data_sha256, splits.get("train"), splits.get("val")
