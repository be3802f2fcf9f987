"""What runs did in detail: their scores over the epochs, and two runs' answers class by class and image by image."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from experiments.artifact_names import CLASS_SCORES, TRACE
from experiments.comparison.comparable import same_images
from experiments.comparison.differences import Recorded
from experiments.comparison.objective import Split
from experiments.comparison.significance import Predictions, read_predictions
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from experiments.training.trace import as_scores, read_trace

MOST_IMAGES = 24
_MOST_CLASSES = 100  # in the table of confusions


def curves(artifacts: Artifacts, runs: Sequence[RunSummary]) -> dict[str, list[dict[str, float | None]]]:
    """Returns each run's scores: by its id, one dict for each epoch, with `epoch` and `train/…` and `val/…`."""
    found = {}
    for run in runs:
        if (path := artifacts.find(run, TRACE)) is not None:
            epochs = [as_scores(line) for line in read_trace(path) if line["stage"] == "epoch"]
            found[run.run_id] = [{name: _finite(value) for name, value in each.items()} for each in epochs]
    return {run_id: epochs for run_id, epochs in found.items() if epochs}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def answers(artifacts: Artifacts, runs: Sequence[Recorded], split: Split) -> dict[str, Any] | None:
    """Compares the answers of two runs on the same images; returns None if there are none to compare.

    `runs`: their ids; `split`; `images`: how many; `classes`: their names; `recall`: for each run, each class's share
    of images that are labelled rightly, null for a class without images; `confusion`: images by true class (rows) and
    label (columns), the first run's count minus the second's; `right_alone`: how many images only the one labels
    rightly; `disagreements`: the images that only one labels rightly, the largest gap in the probability of the true
    class first: index in the split, target, and for each run label and probability.
    """
    if len(same_images(runs, split)) != 1:
        return None
    first, second = (read_predictions(artifacts, each.run, split) for each in runs)
    if first is None or second is None:
        return None
    classes = first.probabilities.shape[1]
    apart = first.is_right != second.is_right
    confusions = [confusion_matrix(each.target, each.label, labels=range(classes)) for each in (first, second)]
    return {
        "runs": [each.run_id for each in runs],
        "split": split,
        "images": len(first.target),
        "classes": _class_names(artifacts, runs[0].run, classes),
        "recall": [_recall(each, classes) for each in (first, second)],
        "confusion": (confusions[0] - confusions[1]).tolist() if classes <= _MOST_CLASSES else None,
        "right_alone": [int(np.count_nonzero(each.is_right & apart)) for each in (first, second)],
        "disagreements": list(map(_disagreement(first, second), _farthest(first, second, apart))),
    }


def _class_names(artifacts: Artifacts, run: RunSummary, classes: int) -> list[str]:
    """Returns the names in the run's table of class scores; without one, numbers."""
    path = artifacts.find(run, CLASS_SCORES)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["data"] if path else []
        names = list(dict.fromkeys(str(row[1]) for row in rows))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        names = []
    return names if len(names) == classes else [str(number) for number in range(classes)]


def _recall(answers: Predictions, classes: int) -> list[float | None]:
    of_class = np.bincount(answers.target, minlength=classes)
    right = np.bincount(answers.target[answers.is_right], minlength=classes)
    return [float(hits / count) if count else None for hits, count in zip(right, of_class, strict=True)]


def _farthest(first: Predictions, second: Predictions, apart: NDArray[np.bool_]) -> list[int]:
    everyone = np.arange(len(first.target))
    gap = np.abs(first.probabilities[everyone, first.target] - second.probabilities[everyone, first.target])
    places = np.flatnonzero(apart)
    chosen: list[int] = places[np.argsort(-gap[places], kind="stable")][:MOST_IMAGES].tolist()
    return chosen


def _disagreement(first: Predictions, second: Predictions) -> Any:
    def row(index: int) -> dict[str, Any]:
        labels = [int(each.label[index]) for each in (first, second)]
        sure = [
            round(float(each.probabilities[index, label]), 4)
            for each, label in zip((first, second), labels, strict=True)
        ]
        return {"index": index, "target": int(first.target[index]), "labels": labels, "probabilities": sure}

    return row
