"""Writes `predictions.npz` (each split's predicted labels, probabilities and true labels) and what is based on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifact_names import (
    CLASS_SCORES,
    CLASS_SCORES_PLOT,
    CONFUSION_PLOT,
    MISTAKES_PLOT,
    NEW_PREDICTIONS,
    PREDICTIONS,
)
from experiments.pictures import plots
from experiments.results import class_scores
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import ImageClassifier, ImageDataModule


def record(run: TrackedRun, classifier: ImageClassifier, data: ImageDataModule, split: str) -> None:
    """Adds the split's predictions to the run, writes the scores by class, and draws what is based on them."""
    probabilities = classifier.probabilities[split].numpy()
    label = probabilities.argmax(axis=1)
    subset = data.splits[split]
    target = subset.targets
    new = {f"{split}_label": label, f"{split}_probabilities": probabilities, f"{split}_target": target}
    predictions = add(run, new)
    names = data.class_names
    scores = class_scores.class_scores(predictions, names)
    class_scores.write_table(scores, run.path(CLASS_SCORES))
    confusion, mistakes = (run.path(name.format(split=split)) for name in (CONFUSION_PLOT, MISTAKES_PLOT))
    plots.plot_confusion(target, label, names, f"{run.name}: {split}", confusion)
    plots.plot_mistakes(subset, probabilities, names, split, mistakes)
    if split == "test":  # a trial never comes here: drawing is the largest part of the cost of tracking it
        for each in ("val", "test"):
            of_split = [row for row in scores if row["split"] == each]
            plots.plot_class_scores(of_split, f"{run.name}: {each}", run.path(CLASS_SCORES_PLOT.format(split=each)))


def add(run: TrackedRun, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Adds arrays to the run's predictions; returns all of them."""
    path, new = run.path(PREDICTIONS), run.path(NEW_PREDICTIONS)
    held: dict[str, NDArray[Any]] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as earlier:
            held |= earlier
    held |= arrays
    np.savez_compressed(new, **held)  # type: ignore[arg-type]  # numpy's stub takes them for its own arguments
    new.replace(path)
    return held
