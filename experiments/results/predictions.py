"""Writes `predictions.npz` (each split's predicted labels, probabilities and true labels) and what is based on it."""

from typing import Any

import numpy as np

from experiments.artifact_names import CLASS_SCORES, CONFUSION_PLOT, MISTAKES_PLOT, NEW_PREDICTIONS, PREDICTIONS
from experiments.results import class_scores, plots
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import ImageClassifier, ImageDataModule


def record(run: TrackedRun, classifier: ImageClassifier, data: ImageDataModule, split: str) -> None:
    """Adds the split's predictions to the run, writes the scores by class, and draws the confusion and the mistakes."""
    probabilities = classifier.probabilities[split].numpy()
    label = probabilities.argmax(axis=1)
    subset = data.splits[split]
    target = subset.targets
    path = run.path(PREDICTIONS)
    predictions: dict[str, Any] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as earlier:
            predictions |= earlier
    predictions |= {f"{split}_label": label, f"{split}_probabilities": probabilities, f"{split}_target": target}
    np.savez_compressed(run.path(NEW_PREDICTIONS), **predictions)
    run.path(NEW_PREDICTIONS).replace(path)
    names = data.class_names
    class_scores.write_table(class_scores.class_scores(predictions, names), run.path(CLASS_SCORES))
    confusion, mistakes = (run.path(name.format(split=split)) for name in (CONFUSION_PLOT, MISTAKES_PLOT))
    plots.plot_confusion(target, label, names, f"{run.name}: {split}", confusion)
    plots.plot_mistakes(subset, probabilities, names, split, mistakes)
