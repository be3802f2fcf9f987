"""Draws the plots of a comparison as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from experiments.comparison.significance import Predictions
from experiments.results.plots import MOST_IMAGES, plot_images
from lightning_modules.pipeline.splits import Subset
from lightning_modules.showable import IN_PICTURE, in_picture, showable

_DPI, _MAX_TICK = 100, 24  # _MAX_TICK: characters of a tick, and ticks of an axis

Pair = tuple[Predictions, Predictions]  # for the same images
Names = tuple[str, str]  # of the two runs


def plot_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Plots loss and accuracy over the epochs, one colour per run: val solid, train dotted. `histories`: by name."""
    figure = Figure(figsize=(11, 4.2), layout="tight")
    for axes, score in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for number, (name, history) in enumerate(histories.items()):
            for split, style in (("val", "-"), ("train", ":")):
                points = [(line["epoch"], line[f"{split}/{score}"]) for line in history if f"{split}/{score}" in line]
                if points:
                    label = in_picture(name) if split == "val" else None
                    axes.plot(*zip(*points, strict=True), style, marker=".", color=f"C{number % 10}", label=label)
        axes.set(xlabel="epoch", ylabel=f"{score}: val, and train (dotted)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def plot_confusion_difference(pair: Pair, names: Names, class_names: Sequence[str], path: Path) -> None:
    """Plots image counts by true class (rows) and predicted class (columns): the first run's minus the second's."""
    ticks = range(len(class_names))
    first, second = (confusion_matrix(answers.target, answers.label, labels=ticks) for answers in pair)
    more = first - second
    labels = list(map(in_picture, class_names))
    side = 3 + min(0.45 * len(labels), 25) + max(0.0, 0.1 * max(map(len, labels)) - 1)  # in inches
    figure = Figure(figsize=(side, side), layout="tight")
    axes = figure.subplots()
    reach = max(1, int(np.abs(more).max()))
    axes.imshow(more, cmap="RdBu", vmin=-reach, vmax=reach)
    for row, column in np.argwhere(more != 0) if len(class_names) <= 30 else []:
        shade = "white" if abs(more[row, column]) > 0.6 * reach else "black"
        axes.text(column, row, f"{more[row, column]:+d}", ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(ticks, labels, rotation=90)
    axes.set_yticks(ticks, labels)
    axes.set(xlabel="predicted", ylabel="true", title="\nminus ".join(map(in_picture, names)))
    figure.savefig(path, dpi=_DPI)


def plot_class_change(pair: Pair, names: Names, class_names: Sequence[str], path: Path) -> None:
    """Plots the share of each class's images that is labelled correctly: the first run's minus the second's."""
    classes = range(len(class_names))
    first, second = (_recall(answers, len(class_names)) for answers in pair)
    figure = Figure(figsize=(9, 1.5 + min(0.3 * len(class_names), 40)), layout="tight")
    axes = figure.subplots()
    change = 100 * (first - second)
    axes.barh(classes, change, color=["C0" if value >= 0 else "C3" for value in change])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(classes, list(map(in_picture, class_names)))
    axes.invert_yaxis()
    axes.set(xlabel=f"percentage points: {' minus '.join(map(in_picture, names))}")
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=_DPI)


def _recall(answers: Predictions, classes: int) -> NDArray[np.float64]:
    of_class = np.bincount(answers.target, minlength=classes)
    right = np.bincount(answers.target[answers.is_right], minlength=classes)
    recall: NDArray[np.float64] = right / np.maximum(of_class, 1)
    return recall


def plot_disagreements(subset: Subset, pair: Pair, names: Names, class_names: Sequence[str], path: Path) -> None:
    """Shows images that only one of the two runs labels correctly, those with the largest gap in probability first."""
    first, second = pair
    target, everyone = first.target, np.arange(len(first.target))
    gap = np.abs(first.probabilities[everyone, target] - second.probabilities[everyone, target])
    apart = np.flatnonzero(first.is_right != second.is_right)
    shown = apart[np.argsort(-gap[apart], kind="stable")][:MOST_IMAGES]
    labels = list(map(in_picture, class_names))
    texts = [f"A {labels[first.label[i]]}, B {labels[second.label[i]]}\n(is {labels[target[i]]})" for i in shown]
    alone = [np.count_nonzero(answers.is_right[apart]) for answers in pair]
    one, other = (showable(name, IN_PICTURE) for name in names)
    title = f"A: {one}, right alone on {alone[0]};   B: {other}, right alone on {alone[1]} of {len(target)}"
    plot_images([subset.images[index] for index in subset.indices[shown]], texts, title, path)


def plot_parallel_coordinates(
    params: Mapping[str, Sequence[str | None]], scores: Sequence[float], metric: str, path: Path
) -> None:
    """Plots one line per run, coloured by its score, through its value of each param; `params` ordered as `scores`.

    Numbers have a linear axis, or a logarithmic one if they span more than a factor of 50. Other values are evenly
    spaced. If a run has no value, its line passes below all of them.
    """
    axes_of = {**{name: _axis(values) for name, values in params.items()}, metric: _axis(list(map(str, scores)))}
    figure = Figure(figsize=(2.5 + 1.8 * len(axes_of), 5), layout="tight")
    axes = figure.subplots()
    heights = np.array([heights for heights, _ in axes_of.values()])
    colours = colormaps["viridis"](Normalize()(scores))
    for run in np.argsort(scores, kind="stable"):  # the best run is drawn last, on top
        axes.plot(heights[:, run], color=colours[run], alpha=0.7, linewidth=1)
    for place, (_, ticks) in enumerate(axes_of.values()):
        axes.axvline(place, color="gray", linewidth=0.8)
        for height, text in ticks:
            box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
            text = in_picture(text)
            axes.annotate(text, (place, height), (3, 0), textcoords="offset points", fontsize=8, va="center", bbox=box)
    axes.set_xticks(range(len(axes_of)), list(map(in_picture, axes_of)), rotation=20, ha="right")
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.2, len(axes_of) - 0.5)
    figure.savefig(path, dpi=_DPI)


def _axis(values: Sequence[str | None]) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Returns the height of each value, 0 to 1 (-0.1 if it is missing), and the ticks (height, text)."""
    known = sorted({value for value in values if value is not None})
    try:
        heights, ticks = _scale({value: float(value) for value in known})
    except ValueError:  # not all are numbers
        heights = dict(zip(known, np.linspace(0, 1, len(known)).tolist(), strict=True))
        ticks = [(height, value[:_MAX_TICK]) for value, height in heights.items()][:_MAX_TICK]
    missing = [(-0.1, "none")] if None in values else []
    return np.array([-0.1 if value is None else heights[value] for value in values]), [*missing, *ticks]


def _scale(numbers: Mapping[str, float]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    low, high = min(numbers.values()), max(numbers.values())
    scale = np.log if low > 0 and high > 50 * low else np.float64
    reach = float(scale(high) - scale(low)) or 1.0
    heights = {value: float(scale(number) - scale(low)) / reach for value, number in numbers.items()}
    return heights, [(0.0, f"{low:.4g}"), *([(1.0, f"{high:.4g}")] if high > low else [])]
