"""Two runs or groups on corrupted images, from the evaluations that `workbench evaluate` has made of their runs.

Shapes: R conditions (the images as they are, then each corruption at each strength), N images.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlflow.entities import Run
from numpy.typing import NDArray

from experiments.artifact_names import EVALUATION, EVALUATION_ANSWERS
from experiments.comparison.significance import Tested, corrected
from experiments.comparison.statistics import estimate, paired_t_test
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary, find_runs

CLEAN, ALL = "clean", "corrupted"
EVALUATES = "workbench.evaluates"  # the tag of an evaluation: the ids of the runs that it is about


@dataclass(frozen=True)
class _Evaluation:
    """An evaluation of some runs. `images` is the same for the same images under the same corruptions."""

    run_id: str
    images: tuple[str, int]
    conditions: Sequence[str]  # such as `noise 3`
    is_right: Mapping[str, NDArray[np.bool_]]  # (R, N), by the id of the run that is evaluated


def robustness(artifacts: Artifacts, rivals: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any] | None, list[str]]:
    """Compares two runs or groups, if all their runs were evaluated. `rivals`: their run ids. Also returns notes.

    `between`: the two; `images`: how many; `evaluations`: {run_id: the run that evaluates it}; `rows`: one for the
    images as they are, for each corruption as a mean over its strengths, and for all corruptions: {name, values{of the
    two: {mean, ci95}}, difference, ci95, p_value, distinguishable}. Intervals and tests are over images, p-values
    corrected by Holm's method. None if there is nothing to compare.
    """
    run_ids = {run_id for of_rival in rivals.values() for run_id in of_rival}
    evaluations = list(_evaluations(artifacts, run_ids)) if len(rivals) == 2 else []
    if not evaluations or not _have(evaluations, run_ids):
        return None, []
    by_images: dict[tuple[str, int], list[_Evaluation]] = {}
    for each in evaluations:
        by_images.setdefault(each.images, []).append(each)
    shared = next((same for same in by_images.values() if _have(same, run_ids)), None)
    if shared is None:
        return None, ["robustness is not compared: the runs were evaluated on different images"]
    chosen = {run_id: next(each for each in shared if run_id in each.is_right) for run_id in sorted(run_ids)}
    first, second = ({name: _mean(chosen, of_rival) for name, of_rival in rivals.items()}).items()
    tests = [
        Tested(name, (first[0], second[0]), paired_t_test(one, other), {"test": "Student's t-test, paired by image"})
        for (name, one), other in zip(first[1].items(), second[1].values(), strict=True)
    ]
    rows = [
        row | {"values": {name: _estimate(scores[row["name"]]) for name, scores in (first, second)}}
        for row in corrected(tests)
    ]
    document = {"between": list(rivals), "images": len(first[1][CLEAN]), "rows": rows}
    return document | {"evaluations": {run_id: each.run_id for run_id, each in chosen.items()}}, []


def _estimate(scores: Sequence[float]) -> dict[str, Any]:
    return dict(vars(estimate(scores).within((0, 1))))


def _have(evaluations: Sequence[_Evaluation], run_ids: Collection[str]) -> bool:
    return all(any(run_id in each.is_right for each in evaluations) for run_id in run_ids)


def _evaluations(artifacts: Artifacts, run_ids: Collection[str]) -> Iterator[_Evaluation]:
    """Yields the evaluations of any of these runs that can be read, newest first."""
    for run in find_runs(artifacts.store, "tags.`workbench.kind` = 'evaluation' and attributes.status = 'FINISHED'"):
        if not set(run.data.tags.get(EVALUATES, "").split(",")).isdisjoint(run_ids):
            try:
                yield _read(artifacts, run)
            except (OSError, ValueError, KeyError, TypeError):
                continue


def _read(artifacts: Artifacts, run: Run) -> _Evaluation:
    """Raises OSError, ValueError, KeyError or TypeError if the files are missing or damaged."""
    document, answers = (artifacts.find(RunSummary.of(run), name) for name in (EVALUATION, EVALUATION_ANSWERS))
    if document is None or answers is None:
        raise OSError("no such file")
    told = json.loads(document.read_text(encoding="utf-8"))
    with np.load(answers, allow_pickle=False) as file:
        count = int(file["images"])
        is_right = {
            run_id: np.unpackbits(file[run_id], axis=1, count=count).astype(np.bool_) for run_id in told["run_ids"]
        }
        conditions = [str(each) for each in file["conditions"]]
    return _Evaluation(run.info.run_id, (told["data"]["sha256"], told["version"]), conditions, is_right)


def _mean(evaluations: Mapping[str, _Evaluation], run_ids: Sequence[str]) -> dict[str, list[float]]:
    """Returns the scores of the runs' images as means over runs."""
    scores = [_scores(evaluations[run_id], run_id) for run_id in run_ids]
    return {name: np.mean([each[name] for each in scores], axis=0).tolist() for name in scores[0]}


def _scores(evaluation: _Evaluation, run_id: str) -> dict[str, NDArray[np.float64]]:
    """Returns for each image whether it is labelled rightly, or how often under a corruption, as a share: (N,)."""
    names = np.array([condition.rpartition(" ")[0] for condition in evaluation.conditions])
    is_right = evaluation.is_right[run_id]
    corruptions = {str(name): is_right[names == name].mean(axis=0) for name in dict.fromkeys(names)}
    clean = {CLEAN: corruptions.pop(CLEAN)}
    return clean | corruptions | {ALL: is_right[names != CLEAN].mean(axis=0)}
