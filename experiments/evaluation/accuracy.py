"""Accuracy with its interval, of one model or of several seeds, and class by class. Shapes: S seeds, N images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.statistics import estimate, wilson_interval
from experiments.results.class_scores import class_scores


def accuracy(is_right_SN: NDArray[np.bool_]) -> tuple[float, list[float] | None]:
    """Returns the accuracy and its 95 % interval.

    Of one model: Wilson's interval over images. Of several seeds: Student's over seeds, which is null if all are equal.
    """
    if len(is_right_SN) == 1:
        hits, images = int(np.count_nonzero(is_right_SN)), is_right_SN.shape[1]
        return hits / images, list(wilson_interval(hits, images))
    found = estimate([float(value) for value in is_right_SN.mean(axis=1)]).within((0, 1))
    return found.mean, None if found.ci95 is None else list(found.ci95)


def by_class(
    labels_SN: NDArray[np.int64], targets_N: NDArray[np.int64], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns a row for each class: class, images, accuracy and ci95, and precision and f1, as means over seeds.

    Undefined scores are None.
    """
    of_seeds = [class_scores({"test_label": labels_N, "test_target": targets_N}, class_names) for labels_N in labels_SN]
    rows = []
    for number, name in enumerate(class_names):
        inside_N = targets_N == number
        value, ci95 = accuracy((labels_SN == targets_N)[:, inside_N]) if inside_N.any() else (None, None)
        means = {score: _mean([rows[number][score] for rows in of_seeds]) for score in ("precision", "f1")}
        row = {"class": name, "images": int(np.count_nonzero(inside_N)), "accuracy": value, "ci95": ci95}
        rows.append(row | means)
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
