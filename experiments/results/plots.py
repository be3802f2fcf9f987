"""Draws all pictures of one run as PNG files.

Pictures that every trial draws have fixed axes positions: a layout engine draws each figure twice, and drawing is the
largest part of the cost of tracking a trial.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from experiments.results.small_png import save_small
from lightning_modules import DataReport
from lightning_modules.pipeline.splits import Subset
from lightning_modules.showable import IN_PICTURE, in_picture

_ROWS, _COLUMNS, _NARROW_COLUMNS = 3, 8, 6  # of the grids of images
_OF_A_SPLIT = re.compile(r"^(train|val|valid|validation)[/_]")
_TITLE = 200  # characters
MOST_IMAGES = _ROWS * _COLUMNS


def plot_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plots loss and accuracy of train and val over the epochs."""
    figure = Figure(figsize=(9, 3.6))
    places = {"left": 0.08, "right": 0.98, "bottom": 0.14, "top": 0.96}
    for axes, score in zip(figure.subplots(1, 2, gridspec_kw=places), ("loss", "accuracy"), strict=True):
        for split in ("train", "val"):
            points = [(line["epoch"], line[f"{split}/{score}"]) for line in history if f"{split}/{score}" in line]
            axes.plot(*zip(*points, strict=True), marker=".", label=split) if points else None
        axes.set(xlabel="epoch", ylabel=score)
        axes.grid(alpha=0.3)
        axes.legend()
    save_small(figure, path, dpi=100)


def plot_scores(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plots every score over the epochs; `train_loss` and `val/loss` share an axes, as scores of the same name do."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for line in history for name in line if name not in {"epoch", "step"}):
        groups.setdefault(_OF_A_SPLIT.sub("", name), []).append(name)
    shown = list(groups.items())[: _ROWS * 2]
    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(9, 3.2 * rows), layout="tight")
    for place, (title, names) in enumerate(shown):
        axes = figure.add_subplot(rows, 2, place + 1)
        for name in names:
            points = [(line["epoch"], line[name]) for line in history if name in line]
            axes.plot(*zip(*points, strict=True), marker=".", label=in_picture(name))
        axes.set(xlabel="epoch", ylabel=in_picture(title))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)


def plot_confusion(
    target: NDArray[np.int64], label: NDArray[np.int64], class_names: Sequence[str], title: str, path: Path
) -> None:
    """Plots the number of images by true class (rows) and predicted class (columns)."""
    counts = confusion_matrix(target, label, labels=range(len(class_names)))
    shown = list(map(in_picture, class_names))
    side, names = min(0.45 * len(shown), 25), 0.6 + 0.1 * min(max(map(len, shown)), IN_PICTURE)  # in inches
    width, height = names + max(side, 3) + 0.2, names + side + 0.4
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((names / width, names / height, side / width, side / height))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts > 0) if len(class_names) <= 30 else []:
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=shade, fontsize=8)
    ticks = range(len(class_names))
    axes.set_xticks(ticks, shown, rotation=90)
    axes.set_yticks(ticks, shown)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(in_picture(title, _TITLE), loc="left", fontsize=10)
    save_small(figure, path, dpi=100)


def plot_mistakes(
    subset: Subset,
    probabilities: NDArray[np.float32],
    class_names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Shows the wrongly predicted images with the highest predicted probability, the highest first."""
    target = subset.targets
    label = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(label != target)
    worst = wrong[np.argsort(-probabilities[wrong, label[wrong]], kind="stable")][:MOST_IMAGES]
    shown = list(map(in_picture, class_names))
    texts = [f"{shown[label[i]]} {probabilities[i, label[i]]:.2f}\n(is {shown[target[i]]})" for i in worst]
    title = f"{title}: {len(wrong)} of {len(target)} wrong; the most confident mistakes"
    plot_images([subset.images[index] for index in subset.indices[worst]], texts, title, path)


def plot_images(images: Sequence[NDArray[Any]], texts: Sequence[str], title: str, path: Path) -> None:
    """Shows up to MOST_IMAGES images (H, W, C), each with its text above."""
    figure = Figure(figsize=(12, 6.5))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.93))
    axes.set_title(in_picture(title, _TITLE))
    _draw_images(axes, images, texts, _COLUMNS)
    save_small(figure, path, dpi=80)


def plot_data_report(report: DataReport, splits: Mapping[str, Subset], path: Path) -> None:
    """Plots the number of images of each class in each split, and shows examples of the images with faults."""
    figure = Figure(figsize=(12, 5), layout="tight")
    bars, faults = figure.subplots(1, 2, width_ratios=(1, 2))
    names = list(report.splits["train"]["classes"])
    places = np.arange(len(names))
    left = np.zeros(len(names))
    for split, summary in report.splits.items():
        counts = np.array(list(summary["classes"].values()))
        bars.barh(places, counts, left=left, label=f"{split}: {summary['count']}")
        left += counts
    bars.set_yticks(places, list(map(in_picture, names))) if len(names) <= 40 else bars.set_yticks([])
    bars.invert_yaxis()
    bars.set(xlabel="images")
    bars.legend()
    lines = [f"{finding.split}: {finding.kind} {finding.count}, {finding.policy}" for finding in report.findings]
    faults.set_title("\n".join(lines) or "no faults found", fontsize=8, loc="left")
    found = [finding for finding in report.findings if "index" in finding.examples[0]]
    share = _ROWS * _NARROW_COLUMNS // max(1, len(found))
    shown = [(finding, example) for finding in found for example in finding.examples[:share]]
    images = [splits[finding.split].images[example["index"]] for finding, example in shown]
    captions = [f"{finding.kind}\n{finding.split} {example['index']}" for finding, example in shown]
    _draw_images(faults, images, captions, _NARROW_COLUMNS)
    save_small(figure, path, dpi=80)


def _draw_images(axes: Axes, images: Sequence[NDArray[Any]], captions: Sequence[str], columns: int) -> None:
    """Draws images in rows with captions above, on one axes: an axes per image takes ten times as long to draw."""
    axes.set_axis_off()
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, columns)
        image = image.squeeze(-1) if image.shape[-1] == 1 else image
        if image.dtype != np.uint8:  # matplotlib shows float colours only between 0 and 1
            image = np.nan_to_num((image - image.min()) / ((image.max() - image.min()) or 1))
        axes.imshow(image, cmap="gray", extent=(column + 0.1, column + 0.9, row + 0.95, row + 0.25))
        axes.text(column + 0.5, row + 0.22, caption, fontsize=8, ha="center", va="bottom")
    axes.set(xlim=(0, columns), ylim=(_ROWS, 0), aspect="auto")
