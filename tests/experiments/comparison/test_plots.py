"""What the pictures of a comparison show, on four images whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments.comparison import plots
from experiments.comparison.significance import Predictions
from lightning_modules.pipeline.splits import Subset

CLASSES, NAMES = ["cat", "dog"], ("one", "two")
TARGET = np.array([0, 0, 1, 1])


def said(*probabilities_of_dog: float) -> Predictions:
    of_dog = np.array(probabilities_of_dog, np.float32)
    return Predictions((of_dog > 0.5).astype(int), TARGET, np.stack([1 - of_dog, of_dog], axis=1))


# Labels 0, 0, 1, 0 and 0, 1, 0, 0: `one` alone is right on the second image (0.1 against 0.6) and the third (0.9
# against 0.3); both are wrong on the last.
PAIR = (said(0.1, 0.1, 0.9, 0.2), said(0.2, 0.6, 0.3, 0.4))


def only_axes(figures: dict[str, Figure], name: str) -> Axes:
    (axes,) = figures[name].axes
    return axes


def test_curves_have_a_line_a_run_and_its_train_scores_dotted(tmp_path: Path, figures: dict[str, Figure]) -> None:
    histories = {
        "one": [
            {"epoch": 1, "val/loss": 1.0, "train/loss": 2.0, "val/accuracy": 0.5, "train/accuracy": 0.25},
            {"epoch": 2, "val/loss": 0.5, "train/loss": 1.5, "val/accuracy": 0.75, "train/accuracy": 0.5},
        ],
        "two": [{"epoch": 1, "val/loss": 0.75, "val/accuracy": 0.625}],
    }
    plots.plot_curves(histories, tmp_path / "curves.png")
    loss, accuracy = figures["curves.png"].axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == tuple(
        f"{score}: val, and train (dotted)" for score in ("loss", "accuracy")
    )
    drawn = [(line.get_color(), line.get_linestyle(), line.get_xydata().tolist()) for line in accuracy.lines]
    assert drawn == [
        ("C0", "-", [[1, 0.5], [2, 0.75]]),
        ("C0", ":", [[1, 0.25], [2, 0.5]]),
        ("C1", "-", [[1, 0.625]]),
    ]
    assert [line.get_ydata().tolist() for line in loss.lines] == [[1.0, 0.5], [2.0, 1.5], [0.75]]
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["one", "two"]


def test_the_confusion_difference_is_the_first_s_counts_minus_the_second_s(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    plots.plot_confusion_difference(PAIR, NAMES, CLASSES, tmp_path / "difference.png")
    axes = only_axes(figures, "difference.png")
    (shades,) = axes.images
    assert np.asarray(shades.get_array()).tolist() == [[1, -1], [-1, 1]]  # [[2, 0], [1, 1]] - [[1, 1], [2, 0]]
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "+1", (0, 1): "-1", (1, 0): "-1", (1, 1): "+1"}
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "one\nminus two")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == CLASSES


def test_the_change_by_class_is_in_percent_points(tmp_path: Path, figures: dict[str, Figure]) -> None:
    worse_on_dogs = said(0.1, 0.1, 0.1, 0.2), said(0.2, 0.6, 0.8, 0.9)  # 2 of 2 cats, 0 dogs; 1 cat, 2 dogs
    plots.plot_class_change(worse_on_dogs, NAMES, CLASSES, tmp_path / "change.png")
    axes = only_axes(figures, "change.png")
    (bars,) = axes.containers
    assert [bar.get_width() for bar in bars] == [50, -100]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [to_hex("C0"), to_hex("C3")]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == CLASSES
    assert axes.get_xlabel() == "percentage points: one minus two"


def test_disagreements_are_the_images_that_one_alone_has_right_the_farthest_apart_first(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    images = np.repeat(np.arange(0, 60, 10, dtype=np.uint8), 4).reshape(6, 2, 2, 1)
    subset = Subset(images, np.array([1, 1, 1, 0, 0, 0]), np.array([5, 4, 2, 1]))
    plots.plot_disagreements(subset, PAIR, NAMES, CLASSES, tmp_path / "apart.png")
    axes = only_axes(figures, "apart.png")
    assert axes.get_title() == "A: one, right alone on 2;   B: two, right alone on 0 of 4"
    assert [text.get_text() for text in axes.texts] == ["A dog, B cat\n(is dog)", "A cat, B dog\n(is cat)"]
    assert [np.asarray(image.get_array()).max() for image in axes.images] == [20, 40]


def test_parallel_coordinates_have_a_line_a_run_coloured_by_its_score(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    params = {"lr": ["0.001", "0.1", "0.01"], "kind": ["adam", "sgd", "adam"], "momentum": [None, "0.9", None]}
    plots.plot_parallel_coordinates(params, [1.0, 0.5, 0.75], "val/accuracy", tmp_path / "parallel.png")
    axes = only_axes(figures, "parallel.png")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["lr", "kind", "momentum", "val/accuracy"]
    runs = [line for line in axes.lines if len(line.get_xdata()) == 4]
    heights = [[0, 0, -0.1, 1], [1, 1, 0, 0], [0.5, 0, -0.1, 0.5]]  # lr: by its logarithm; no momentum: below all
    by_score = [1, 2, 0]  # the best is drawn last, on top
    assert [line.get_ydata().tolist() for line in runs] == [pytest.approx(heights[run]) for run in by_score]
    shades = [to_hex(colormaps["viridis"](share)) for share in (0.0, 0.5, 1.0)]
    assert [to_hex(line.get_color()) for line in runs] == shades
    ticks = [(text.xy[0], text.get_text()) for text in axes.texts]
    assert ticks == [
        *((0, text) for text in ("0.001", "0.1")),
        *((1, text) for text in ("adam", "sgd")),
        *((2, text) for text in ("none", "0.9")),
        *((3, text) for text in ("0.5", "1")),
    ]
