"""Computes the scores of each class from a run's predictions, for `class_scores.json`, a table that MLflow's UI shows.

The accuracy of a class is the share of its images that are predicted as this class, that is, its recall.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from experiments.artifact_names import CLASS_SCORES

# MLflow's UI recognises a table by this tag.
TAG = {"mlflow.loggedArtifacts": json.dumps([{"path": CLASS_SCORES, "type": "table"}])}
_COLUMNS = ("split", "class", "images", "accuracy", "precision", "f1")


def class_scores(predictions: Mapping[str, NDArray[Any]], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns one row per split and class. `predictions`: as in `predictions.npz`. Undefined scores are None."""
    rows: list[dict[str, Any]] = []
    for split in (split for split in ("val", "test") if f"{split}_label" in predictions):
        scores = precision_recall_fscore_support(
            predictions[f"{split}_target"],
            predictions[f"{split}_label"],
            labels=np.arange(len(class_names)),
            zero_division=np.nan,
        )
        for name, precision, recall, f1, images in zip(class_names, *(each.tolist() for each in scores), strict=True):
            values = (None if np.isnan(score) else score for score in (recall, precision, f1))
            rows.append(dict(zip(_COLUMNS, (split, name, images, *values), strict=True)))
    return rows


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the table in the format of MLflow's `log_table`."""
    table = {"columns": _COLUMNS, "data": [[row[column] for column in _COLUMNS] for row in rows]}
    path.write_text(json.dumps(table), encoding="utf-8")
