"""Draws all pictures of one run as PNG files. Lengths are in inches."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from experiments.config import TrainerConfig
from experiments.pictures import style
from experiments.pictures.image_grid import ImageGrid
from experiments.pictures.lettering import LINE, Letters
from experiments.pictures.sheet import Sheet
from experiments.pictures.style import in_style, ink_on
from lightning_modules import DataReport
from lightning_modules.pipeline.cleaning import Finding
from lightning_modules.pipeline.splits import Subset

MOST_IMAGES = 24  # of a picture
_OF_A_SPLIT = re.compile(r"^(train|val|valid|validation)[/_]")
Point = tuple[int, float]  # (epoch, value)

_TRAIN, _VAL, _TEST = style.BLUE, style.VERMILLION, style.GREEN
_COLOUR_OF_SPLIT = {"train": _TRAIN, "val": _VAL, "valid": _VAL, "validation": _VAL, "test": _TEST}
_ROUND = MaxNLocator(6, steps=(1, 2, 5, 10))
_WHOLE = MaxNLocator(5, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1)
_MOST_PANELS = 6
_MARKED = 30  # epochs; curves of more have no dot at each
_RATIO = 50  # of the highest to the lowest value of a score, from which on its axis is logarithmic
_NAME = 1.7  # room for the name of a class
_WRITTEN = 30  # classes; the cells of larger confusion matrices have no text
_FINEST = 1000  # cells of a confusion matrix in each direction; a picture has no more pixels
_LISTED = 25  # classes or confusions; of more, the worst are listed
_CLASS_SCORES = (
    ("accuracy", "recall (accuracy)", "●", "o", style.BLUE),
    ("precision", "precision", "◆", "D", style.ORANGE),
    ("f1", "F1", "|", "|", style.BLACK),
)
_PAGE = 9.6  # the width of a picture with images
_FOUND = 6  # findings of which images are shown


# Curves.


def plot_curves(history: Sequence[Mapping[str, float]], trainer: TrainerConfig, path: Path) -> None:
    """Plots loss, accuracy and the monitored score of train and val over the epochs, and marks the best epoch."""
    scores = dict.fromkeys(["loss", "accuracy", _OF_A_SPLIT.sub("", trainer.monitor)])
    panels = {score: {split: f"{split}/{score}" for split in ("train", "val")} for score in scores}
    _plot_panels(panels, history, trainer, path)


def plot_scores(history: Sequence[Mapping[str, float]], trainer: TrainerConfig, path: Path) -> None:
    """Plots every score over the epochs; `train_loss` and `val/loss` share an axes, as scores of the same name do."""
    names = dict.fromkeys(name for line in history for name in line if name not in {"epoch", "step"})
    panels: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda name: name != trainer.monitor):
        panels.setdefault(_OF_A_SPLIT.sub("", name), {})[name] = name
    _plot_panels(panels, history, trainer, path)


def _plot_panels(
    panels: Mapping[str, Mapping[str, str]],
    history: Sequence[Mapping[str, float]],
    trainer: TrainerConfig,
    path: Path,
) -> None:
    """Plots panels of curves; `panels`: title → label of a curve → name of its score. Leaves out empty ones."""
    drawn = {title: _points(names, history) for title, names in panels.items()}
    drawn = {title: curves for title, curves in drawn.items() if curves}
    shown = dict([*drawn.items()][:_MOST_PANELS])
    columns = 2 if len(shown) == 4 else max(1, min(3, len(shown)))
    rows = -(-len(shown) // columns)
    width = 4.5 * min(columns, 2)
    best = trainer.best_epoch(history)
    with in_style([trainer.monitor, *shown, *(label for curves in shown.values() for label in curves)]) as letters:
        sheet = Sheet(width, 0.35 + 3.2 * rows, letters)
        for place, (title, curves) in enumerate(shown.items()):
            row, column = divmod(place, columns)
            left, top = column * width / columns, 0.35 + 3.2 * row
            axes = sheet.axes(left + 0.85, top + 0.25, width / columns - 0.95, 2.45)
            signs = _draw_curves(axes, curves)
            sheet.scale_across(axes, "epoch", _inside(axes.get_xlim(), _WHOLE.tick_values(*axes.get_xlim())))
            locator = LogLocator(numticks=6) if axes.get_yscale() == "log" else _ROUND
            values = _inside(axes.get_ylim(), locator.tick_values(*axes.get_ylim()))
            sheet.scale_down(axes, letters.fit(title, 2.4), values)
            room = (width / columns - 0.9) / len(signs) - 0.4
            entries = [(*sign, letters.fit(name, room)) for name, sign in signs.items()]
            sheet.key(left + width / columns - 0.1, top, entries)
            if best is not None:
                axes.axvline(best["epoch"], color=style.BLACK, linewidth=1, linestyle=":")
                if trainer.monitor in panels[title].values():
                    at = best["epoch"], best[trainer.monitor]
                    axes.plot(*at, "o", color=style.BLACK, markersize=9, fillstyle="none")
        told = [f"best epoch: {best['epoch']:g}, {trainer.monitor} {best[trainer.monitor]:.4g}"] if best else []
        told += [f"{len(shown)} of {len(drawn)} scores are shown"] if len(shown) < len(drawn) else []
        sheet.write(0.1, 0.1, letters.fit("; ".join(told), width - 0.2))
        sheet.save(path)


def plot_band(
    metric: str, runs: Sequence[Sequence[Point]], means: Sequence[Mapping[str, float]], title: str, path: Path
) -> None:
    """Plots a score of several runs over the epochs, with their mean, and its interval as a band.

    `means`: rows of epoch, mean, low and high. `title` stands below. There must be a run with a point.
    """
    with in_style([metric, title]) as letters:
        sheet = Sheet(6.4, 3.7, letters)
        axes = sheet.axes(0.85, 0.35, 5.45, 2.5)
        for run in filter(None, runs):
            axes.plot(*np.array(run, float).T, color=style.SKY, linewidth=0.8)
        epochs, mean, low, high = (
            np.array([each[name] for each in means]) for name in ("epoch", "mean", "low", "high")
        )
        axes.fill_between(epochs, low, high, color=_VAL, alpha=0.2, linewidth=0 if len(means) > 1 else 6)
        axes.plot(epochs, mean, color=_VAL, marker="." if len(means) <= _MARKED else "")
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        sheet.scale_across(axes, "epoch", _inside(axes.get_xlim(), _WHOLE.tick_values(*axes.get_xlim())))
        sheet.scale_down(axes, letters.fit(metric, 2.4), _inside(axes.get_ylim(), _ROUND.tick_values(*axes.get_ylim())))
        sheet.key(6.3, 0.1, [("━", style.SKY, "each run"), ("━", _VAL, "mean"), ("■", "#F7DFCC", "95 % interval")])
        sheet.write(0.1, 3.43, letters.fit(title, 6.2))
        sheet.save(path)


def _points(
    names: Mapping[str, str], history: Sequence[Mapping[str, float]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Returns epochs and values by label, of those scores that have a value."""
    found = {}
    for label, name in names.items():
        points = [(line["epoch"], line[name]) for line in history if math.isfinite(line.get(name, math.nan))]
        if points:
            epochs, values = np.array(points, float).T
            found[label] = epochs, values
    return found


def _draw_curves(
    axes: Axes, curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> dict[str, tuple[str, str]]:
    """Draws curves and sets the limits of the axes; returns the sign and the colour of each by its label."""
    signs = {}
    for number, (label, (epochs, values)) in enumerate(curves.items()):
        match = _OF_A_SPLIT.match(f"{label}/")
        colour = _COLOUR_OF_SPLIT[match[1]] if match else style.CATEGORIES[number % len(style.CATEGORIES)]
        axes.plot(epochs, values, marker="." if len(epochs) <= _MARKED else "", label=label, color=colour)
        signs[label] = "━", colour
    values = np.concatenate([values for _, values in curves.values()])
    if 0 < _RATIO * values.min() < values.max():
        axes.set_yscale("log")
    epochs = np.concatenate([epochs for epochs, _ in curves.values()])
    margin = max(0.5, 0.03 * (epochs.max() - epochs.min()))
    axes.set(xlim=(epochs.min() - 0.5, epochs.max() + margin), ylim=axes.get_ylim())
    return signs


def _inside(limits: tuple[float, float], places: Sequence[float]) -> list[float]:
    low, high = sorted(limits)
    return [float(place) for place in places if low <= place <= high]


# Classes.


def plot_confusion(
    target: NDArray[np.int64], label: NDArray[np.int64], class_names: Sequence[str], title: str, path: Path
) -> None:
    """Plots the images by true class (rows) and predicted class (columns): their number, and their share of the row.

    The cells of many classes have no text; the most frequent confusions are listed instead. A cell of more than
    `_FINEST` classes holds several.
    """
    block = math.ceil(len(class_names) / _FINEST)
    cells = math.ceil(len(class_names) / block)
    counts = np.bincount(target // block * cells + label // block, minlength=cells**2).reshape(cells, cells)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_written = cells <= _WRITTEN
    cell = min(max(3 / cells, 0.5), 1) if is_written else min(LINE, 16 / cells)
    ticks = range(0, cells, math.ceil(LINE / cell - 1e-9))
    side = cell * cells
    with in_style([title, *class_names]) as letters:
        names = letters.of_classes(class_names)
        shown = [letters.fit(names[tick * block], _NAME) for tick in ticks]
        widest = max(map(letters.width, shown))
        is_level = widest < cell - 0.05
        left, top, below = 0.4 + widest, 0.45, 0.4 + (LINE if is_level else widest)
        sheet = Sheet(left + max(side, 3 - left) + (0.1 if is_written else 3.6), top + side + below, letters)
        axes = sheet.axes(left, top, side, side)
        shades = axes.imshow(shares, cmap=style.SHARES, vmin=1e-9, vmax=1, interpolation="nearest")
        axes.spines[:].set_visible(True)
        sheet.scale_across(axes, "predicted", ticks, shown, has_lines=False, is_upright=not is_level)
        sheet.scale_down(axes, "true", ticks, shown, has_lines=False)
        told = "images, and their share of the true class" if is_written else "share of the true class"
        told += f"; each cell holds {block} × {block} classes" if block > 1 else ""
        sheet.write(0.1, 0.08, f"{letters.fit(title, sheet.width - 0.2)}\n{told}")
        if is_written:
            between = np.arange(cells - 1) + 0.5
            axes.hlines(between, -0.5, cells - 0.5, style.GRID, linewidth=style.THIN)
            axes.vlines(between, -0.5, cells - 0.5, style.GRID, linewidth=style.THIN)
            for row, column in np.argwhere(counts > 0):
                text = f"{_short(counts[row, column])}\n{_percent(shares[row, column])}"
                ink = ink_on(style.SHARES(shares[row, column]))
                axes.text(column, row, text, ha="center", va="center", color=ink, linespacing=1)
        else:
            bar = sheet.axes(left + side + 0.1, top, 0.12, side)
            sheet.figure.colorbar(shades, bar)
            bar.yaxis.set_visible(True)
            lines = [
                f"{_short(count)} ({_percent(share)})  {' → '.join(letters.fit(names[each], 1.2) for each in pair)}"
                for pair, count, share in _most_confused(target, label, most=_LISTED)
            ]
            lines = ["most frequent confusions, true → predicted", *lines] if lines else ["no confusions"]
            sheet.write(left + side + 0.7, top, "\n".join(lines))
        sheet.save(path)


def _most_confused(
    target: NDArray[np.int64], label: NDArray[np.int64], most: int
) -> list[tuple[tuple[int, int], int, float]]:
    """Returns (true, predicted class), images, and their share of the true class, the most frequent first."""
    of_class = np.bincount(target)
    (true, said), counts = np.unique(np.stack([target, label])[:, target != label], axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [((true[i], said[i]), int(counts[i]), float(counts[i] / of_class[true[i]])) for i in order]


def _short(count: int) -> str:
    return f"{count}" if count < 100_000 else f"{count / 1000:.0f}k"


def _percent(share: float) -> str:
    """In whole percent, and not 0 % or 100 % for what is not exactly that."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "<1%" if share < 0.5 else ">99%"
    return f"{share:.0%}"


def plot_class_scores(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plots recall, precision and F1 of each class, the class with the lowest F1 first. `rows`: of one split."""
    order = sorted(range(len(rows)), key=lambda place: _or_infinite(rows[place]["f1"]))[:_LISTED]
    listed = [rows[place] for place in order]
    heights = np.arange(len(listed))
    with in_style([title, *(row["class"] for row in rows)]) as letters:
        names = letters.of_classes([row["class"] for row in rows])
        labels = [f"{letters.fit(names[place], _NAME)}  {_short(rows[place]['images'])}" for place in order]
        left = 0.15 + max(map(letters.width, labels))
        sheet = Sheet(left + 4.3, 1.1 + 0.18 * len(listed), letters)
        axes = sheet.axes(left, 0.65, 4.1, 0.18 * len(listed))
        axes.set_ylim(len(listed) - 0.5, -0.5)
        for name, title_of, _, marker, colour in _CLASS_SCORES:
            values = np.array([row[name] for row in listed], float)
            axes.plot(values, heights, marker, color=colour, markersize=8 if marker == "|" else 5, label=title_of)
        axes.set_xlim(axes.get_xlim())
        sheet.scale_across(axes, "score", _inside(axes.get_xlim(), _ROUND.tick_values(*axes.get_xlim())))
        sheet.scale_down(axes, "", heights.tolist(), labels)
        sheet.key(left + 4.1, 0.42, [(sign, colour, title_of) for _, title_of, sign, _, colour in _CLASS_SCORES])
        worst = f"the {len(listed)} worst of {len(rows)} classes" if len(listed) < len(rows) else "worst class first"
        told = f"{letters.fit(title, sheet.width - 0.2)}\n{worst}, with its number of images"
        sheet.write(0.1, 0.08, told)
        sheet.save(path)


def _or_infinite(score: float | None) -> float:
    return math.inf if score is None else score


# Images.


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
    names = Letters.of(class_names).of_classes(class_names)
    texts = [f"{names[label[i]]} ({_percent(probabilities[i, label[i]])})\nis {names[target[i]]}" for i in worst]
    more = "; the most confident mistakes, with the probability of the predicted class" if len(wrong) else ""
    title = f"{title}: {len(wrong)} of {len(target)} wrong{more}"
    plot_images([subset.images[index] for index in subset.indices[worst]], texts, title, path)


def plot_images(images: Sequence[NDArray[Any]], texts: Sequence[str], title: str, path: Path) -> None:
    """Shows up to MOST_IMAGES images (H, W, C) of one shape, each with its text of two lines above."""
    grid = ImageGrid.of(images, _PAGE, lines=2)
    with in_style([title, *texts]) as letters:
        sheet = Sheet(_PAGE, 0.35 + grid.height * grid.rows(len(images)), letters)
        axes = sheet.bare_axes(0, _PAGE)
        above = 1 - 0.08 / sheet.height
        shown = letters.fit(title, _PAGE - 0.2)
        axes.set_title(shown, loc="center", x=0.1 / _PAGE, y=above, pad=0, ha="left", va="top")
        grid.draw(axes, images, texts, 0.35, letters)
        sheet.save(path)


def plot_data_report(report: DataReport, splits: Mapping[str, Subset], path: Path) -> None:
    """Plots the number of images of each class in each split, and shows examples of the images with faults."""
    class_names = list(report.splits["train"]["classes"])
    classes, findings = len(class_names), report.findings
    images = [_images_of(finding, splits) for finding in findings]
    with_images = [number for number, found in enumerate(images) if found][:_FOUND]
    lines = [f"{finding.split}: {finding.kind} {finding.count}, {finding.policy}" for finding in findings]
    lines = lines or ["no faults found"]
    with in_style([*class_names, *lines]) as letters:
        labels = [letters.fit(name, _NAME) for name in letters.of_classes(class_names)] if classes <= _LISTED else []
        left = 0.15 + max(map(letters.width, labels), default=0.15)
        right = left + 2.8  # where the findings begin
        room = _PAGE - right if findings else 1.3
        grids = {number: ImageGrid.of([*images[number].values()], room, lines=1) for number in with_images}
        heights = [0.25 + (grids[number].height if number in grids else 0) for number in range(len(lines))]
        above, bars_height = 0.15 + 0.2 * len(report.splits), max(0.2 * classes, 1) if classes <= _LISTED else 4
        sheet = Sheet(right + room, max(above + bars_height + 0.45, 0.2 + sum(heights)), letters)
        bars = sheet.axes(left, above, 2.5, bars_height)
        _draw_bars(bars, report, has_bars=bool(labels))
        sheet.scale_across(bars, "images", _inside(bars.get_xlim(), _WHOLE.tick_values(*bars.get_xlim())))
        sheet.scale_down(bars, "" if labels else f"{classes} classes", range(len(labels)), labels, has_lines=False)
        for row, (split, summary) in enumerate(report.splits.items()):
            sheet.write(left, 0.1 + 0.18 * row, "■", _COLOUR_OF_SPLIT[split])
            sheet.write(left + 0.17, 0.1 + 0.18 * row, f"{split}: {summary['count']:,}")
        faults = sheet.bare_axes(right, room)
        for number, line in enumerate(lines):
            top = 0.1 + sum(heights[:number])
            faults.text(0, top, letters.fit(line, room), va="top")
            if number in grids:
                some = dict([*images[number].items()][: grids[number].columns])
                grids[number].draw(faults, [*some.values()], [*map(str, some)], top + 0.18, letters)
        sheet.save(path)


def _draw_bars(axes: Axes, report: DataReport, *, has_bars: bool) -> None:
    """Draws the number of images of each class, a colour per split: bars, or areas if there are too many for them."""
    classes = len(report.splits["train"]["classes"])
    places, left = np.arange(classes), np.zeros(classes)
    for split, summary in report.splits.items():
        counts = np.array(list(summary["classes"].values()))
        colour = _COLOUR_OF_SPLIT[split]
        if has_bars:
            axes.barh(places, counts, left=left, color=colour, label=split)
        else:  # one shape for all classes: thousands of bars would take seconds
            axes.fill_betweenx(places, left, left + counts, step="mid", linewidth=0, color=colour, label=split)
        left = left + counts
    axes.set(xlim=(0, 1.05 * max(1, left.max())), ylim=(classes - 0.4, -0.6))


def _images_of(finding: Finding, splits: Mapping[str, Subset]) -> dict[int, NDArray[Any]]:
    """Returns examples of images with a fault by their index; empty if the fault is not one of images."""
    indices = [example["index"] for example in finding.examples if "index" in example]
    return {index: splits[finding.split].images[index] for index in indices[:MOST_IMAGES]}
