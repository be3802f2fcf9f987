"""Scores by class, worked out by hand."""

import numpy as np
import pytest

from experiments.results.class_scores import class_scores

# Of a's three images two are found; of b's one, one; c has none in val, and is said once.
PREDICTIONS = {"val_target": np.array([0, 0, 0, 1]), "val_label": np.array([0, 0, 2, 1])}


def test_each_class_has_a_row_and_scores_where_it_has_what_they_rest_on() -> None:
    keys = ("class", "images", "accuracy", "precision", "f1")
    rows = [tuple(row[key] for key in keys) for row in class_scores(PREDICTIONS, ("a", "b", "c"))]
    expected = [("a", 3, 2 / 3, 1.0, 0.8), ("b", 1, 1.0, 1.0, 1.0), ("c", 0, None, 0.0, 0.0)]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted)
