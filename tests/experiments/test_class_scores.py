"""Scores by class, worked out by hand."""

import numpy as np
import pytest

from experiments.class_scores import as_metrics, class_scores

# Of a's three images two are found; of b's one, one; c has none in val, and is said once.
PREDICTIONS = {"val_target": np.array([0, 0, 0, 1]), "val_label": np.array([0, 0, 2, 1])}


def test_each_class_has_a_row_and_scores_where_it_has_what_they_rest_on() -> None:
    keys = ("class", "images", "accuracy", "precision", "f1")
    rows = [tuple(row[key] for key in keys) for row in class_scores(PREDICTIONS, ("a", "b", "c"))]
    expected = [("a", 3, 2 / 3, 1.0, 0.8), ("b", 1, 1.0, 1.0, 1.0), ("c", 0, None, 0.0, 0.0)]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("names", "metrics"),
    [
        (("a", "b", "c"), {"val/accuracy/a": 2 / 3, "val/accuracy/b": 1.0}),
        (("T-shirt/top", "", "c"), {"val/accuracy/T-shirt_top": 2 / 3, "val/accuracy/_": 1.0}),
        (("..", "größe 1.5", "c"), {"val/accuracy/__": 2 / 3, "val/accuracy/gr__e 1_5": 1.0}),
        (("a/b", "a_b", "c"), {}),  # which of the two would it be?
        (tuple(map(str, range(21))), {}),
    ],
)
def test_few_classes_have_a_metric_each_by_a_name_that_mlflow_takes(
    names: tuple[str, ...], metrics: dict[str, float]
) -> None:
    assert as_metrics(class_scores(PREDICTIONS, names), "val") == pytest.approx(metrics)
