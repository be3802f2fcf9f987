"""What the pictures of one run show, on a few images whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import plots
from lightning_modules import DataReport
from lightning_modules.pipeline.cleaning import Finding
from lightning_modules.pipeline.splits import Subset

# Six images of one brightness each, of which a split holds four: those of brightness 50, 40, 30 and 0.
IMAGES = np.repeat(np.arange(0, 60, 10, dtype=np.uint8), 4).reshape(6, 2, 2, 1)
SUBSET = Subset(IMAGES, np.array([0, 1, 0, 0, 1, 1]), np.array([5, 4, 3, 0]))  # targets: 1, 1, 0, 0


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def brightness(axes: Axes) -> list[float]:
    """Of each image shown."""
    return [float(np.asarray(image.get_array()).max()) for image in axes.images]


def test_curves_are_the_scores_of_train_and_val_by_epoch(tmp_path: Path, figures: dict[str, Figure]) -> None:
    history = [
        {"epoch": 1, "step": 41, "train/loss": 2.0, "val/loss": 1.0, "train/accuracy": 0.25, "val/accuracy": 0.5},
        {"epoch": 2, "step": 82, "train/loss": 1.5, "val/loss": 0.5, "train/accuracy": 0.5, "val/accuracy": 0.75},
    ]
    plots.plot_curves(history, tmp_path / "curves.png")
    figure = figures["curves.png"]
    shown = {
        axes.get_ylabel(): {line.get_label(): line.get_xydata().tolist() for line in axes.lines} for axes in figure.axes
    }
    assert shown == {
        "loss": {"train": [[1, 2.0], [2, 1.5]], "val": [[1, 1.0], [2, 0.5]]},
        "accuracy": {"train": [[1, 0.25], [2, 0.5]], "val": [[1, 0.5], [2, 0.75]]},
    }


def test_a_confusion_matrix_has_a_row_a_true_class(tmp_path: Path, figures: dict[str, Figure]) -> None:
    target, label = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 1, 1])
    plots.plot_confusion(target, label, ["cat", "dog"], "mine: val", tmp_path / "confusion.png")
    (axes,) = figures["confusion.png"].axes
    (shades,) = axes.images
    assert np.asarray(shades.get_array()).tolist() == [[0.25, 0.75], [0, 1]]  # shares of the true class
    cells = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1", (0, 1): "3", (1, 1): "2"}  # counts
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title("left")) == ("predicted", "true", "mine: val")
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["cat", "dog"]


def test_mistakes_are_the_wrong_answers_the_most_confident_first(tmp_path: Path, figures: dict[str, Figure]) -> None:
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]], np.float32)  # the first and third: wrong
    plots.plot_mistakes(SUBSET, probabilities, ["cat", "dog"], "val", tmp_path / "mistakes.png")
    (axes,) = figures["mistakes.png"].axes
    assert axes.get_title() == "val: 2 of 4 wrong; the most confident mistakes"
    assert texts(axes) == ["dog 0.90\n(is cat)", "cat 0.60\n(is dog)"]
    assert brightness(axes) == [30, 50]


def test_a_data_report_counts_classes_by_split_and_shows_what_was_found(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    splits = {
        "train": {"count": 5, "classes": {"cat": 3, "dog": 2}},
        "val": {"count": 1, "classes": {"cat": 0, "dog": 1}},
    }
    findings = [
        Finding(
            kind="duplicates",
            split="train",
            count=2,
            message="copies",
            examples=[{"index": 4}, {"index": 2}],
            policy="drop",
        ),
        Finding(
            kind="label_gaps", split="val", count=1, message="no label 1", examples=[{"class": 1}], policy="report"
        ),
    ]
    report = DataReport(splits=splits, findings=findings)
    plots.plot_data_report(report, {"train": SUBSET, "val": SUBSET}, tmp_path / "report.png")
    bars, faults = figures["report.png"].axes
    lengths = {group.get_label(): [(bar.get_x(), bar.get_width()) for bar in group] for group in bars.containers}
    assert lengths == {"train: 5": [(0, 3), (0, 2)], "val: 1": [(3, 0), (2, 1)]}
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["cat", "dog"]
    assert faults.get_title("left") == "train: duplicates 2, drop\nval: label_gaps 1, report"
    assert texts(faults) == ["duplicates\ntrain 4", "duplicates\ntrain 2"]
    assert brightness(faults) == [40, 20]


@pytest.mark.parametrize(("images", "shown"), [(24, 24), (25, 24)])
def test_no_more_mistakes_are_shown_than_there_is_room_for(
    images: int, shown: int, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    subset = Subset(np.zeros((images, 2, 2, 1), np.uint8), np.zeros(images, np.int64), np.arange(images))
    plots.plot_mistakes(subset, np.tile(np.float32([0.1, 0.9]), (images, 1)), ["a", "b"], "val", tmp_path / "many.png")
    (axes,) = figures["many.png"].axes
    assert len(axes.images) == len(axes.texts) == shown


def test_names_of_classes_are_no_formulas_and_are_cut(tmp_path: Path, figures: dict[str, Figure]) -> None:
    names, target = [r"$\frac{$", "b" * 100_000], np.array([0, 1])
    plots.plot_confusion(target, target, names, r"$\x$: val", tmp_path / "confusion.png")
    (axes,) = figures["confusion.png"].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [r"\$\frac{\$", "b" * 40 + "…"]
    assert max(figures["confusion.png"].get_size_inches()) < 10
    plots.plot_mistakes(SUBSET, np.array([[0.9, 0.1]] * 4, np.float32), names, "val", tmp_path / "mistakes.png")
    assert r"\$\frac{\$ 0.90" in texts(figures["mistakes.png"].axes[0])[0]
