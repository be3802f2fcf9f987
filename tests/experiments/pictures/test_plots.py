"""What the pictures of one run show, on a few images whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from experiments.config import TrainerConfig
from experiments.pictures import plots, style
from experiments.pictures.lettering import FONT_SIZE
from experiments.pictures.sheet import ACROSS, DOWN
from experiments.results.class_scores import class_scores
from lightning_modules import DataReport
from lightning_modules.pipeline.cleaning import Finding
from lightning_modules.pipeline.splits import Subset

# Six images of one brightness each, of which a split holds four: those of brightness 50, 40, 30 and 0.
IMAGES = np.repeat(np.arange(0, 60, 10, dtype=np.uint8), 4).reshape(6, 2, 2, 1)
SUBSET = Subset(IMAGES, np.array([0, 1, 0, 0, 1, 1]), np.array([5, 4, 3, 0]))  # targets: 1, 1, 0, 0
HISTORY = [
    {"epoch": 1, "step": 41, "train/loss": 2.0, "val/loss": 1.0, "train/accuracy": 0.25, "val/accuracy": 0.5},
    {"epoch": 2, "step": 82, "train/loss": 1.5, "val/loss": 0.5, "train/accuracy": 0.5, "val/accuracy": 0.75},
    {"epoch": 3, "step": 123, "train/loss": 1.0, "val/loss": 0.75, "train/accuracy": 0.625, "val/accuracy": 0.875},
]
LONG = ["American black bear, Ursus americanus", "American brown bear, Ursus arctos", "a cat"]
VAL = TrainerConfig()  # monitors val/accuracy


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def brightness(axes: Axes) -> list[float]:
    """Of each image shown."""
    return [float(np.asarray(image.get_array()).max()) for image in axes.images]


def labels(axes: Axes, which: str) -> list[str]:
    """The texts at the scale across, or the one down."""
    return [text.get_text() for text in axes.texts if text.get_gid() == which]


def inside(axes: Axes) -> list[str]:
    """The texts in the axes: not at its scales."""
    return [text.get_text() for text in axes.texts if text.get_transform() is axes.transData]


def curves(axes: Axes) -> dict[Any, Any]:
    """The curves with a label."""
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    return {label: points for label, points in drawn.items() if not str(label).startswith("_")}


def marks(axes: Axes) -> list[Any]:
    """The points of lines without a label: those of the best epoch."""
    return [line.get_xydata().tolist() for line in axes.lines if str(line.get_label()).startswith("_")]


def renderer(figure: Figure) -> RendererBase:
    return figure.canvas.get_renderer()  # type: ignore[attr-defined,no-any-return]


def boxes(figure: Figure) -> list[Bbox]:
    """The places of all texts that are drawn, in pixels."""
    drawn = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.title))]
    return [text.get_window_extent(renderer(figure)) for text in drawn if text.get_text()]


def assert_legible(figure: Figure) -> None:
    """No text lies on another one or is cut by the picture's edge, and all have one size."""
    found, page = boxes(figure), figure.bbox
    assert {text.get_fontsize() for text in figure.findobj(Text)} == {FONT_SIZE}
    for place, box in enumerate(found):
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1, (box, page)
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1, (box, page)
        over = [
            other
            for other in found[place + 1 :]
            if min(box.x1, other.x1) - max(box.x0, other.x0) > 1 and min(box.y1, other.y1) - max(box.y0, other.y0) > 2
        ]
        assert over == [], box


def test_curves_are_the_scores_of_train_and_val_by_epoch(tmp_path: Path, figures: dict[str, Figure]) -> None:
    plots.plot_curves(HISTORY, VAL, tmp_path / "curves.png")
    figure = figures["curves.png"]
    assert {axes.get_ylabel(): curves(axes) for axes in figure.axes} == {
        "loss": {"train": [[1, 2.0], [2, 1.5], [3, 1.0]], "val": [[1, 1.0], [2, 0.5], [3, 0.75]]},
        "accuracy": {"train": [[1, 0.25], [2, 0.5], [3, 0.625]], "val": [[1, 0.5], [2, 0.75], [3, 0.875]]},
    }
    assert_legible(figure)


@pytest.mark.parametrize(
    ("monitor", "told", "line", "ring"),
    [
        ("val/accuracy", "best epoch: 3, val/accuracy 0.875", 3, ("accuracy", [3, 0.875])),
        ("val/loss", "best epoch: 2, val/loss 0.5", 2, ("loss", [2, 0.5])),  # the lowest
    ],
)
def test_the_best_epoch_is_marked_by_the_monitor_and_its_direction(
    monitor: str, told: str, line: int, ring: tuple[str, list[float]], tmp_path: Path, figures: dict[str, Figure]
) -> None:
    plots.plot_curves(HISTORY, TrainerConfig(monitor=monitor), tmp_path / "curves.png")
    figure = figures["curves.png"]
    assert figure.texts[-1].get_text() == told
    for axes in figure.axes:
        rings = [[ring[1]]] if axes.get_ylabel() == ring[0] else []
        assert marks(axes) == [[[line, 0], [line, 1]], *rings]


def test_the_first_of_equally_good_epochs_is_the_best_and_nan_is_not() -> None:
    history = [{"epoch": n, "val/accuracy": score} for n, score in enumerate([float("nan"), 0.5, 0.7, 0.7], start=1)]
    best = VAL.best_epoch(history)
    assert best is not None
    assert best["epoch"] == 3
    assert VAL.best_epoch(history[:1]) is None


def test_a_monitored_score_beside_loss_and_accuracy_has_its_own_panel(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    history = [{**line, "val/macro_f1": line["val/accuracy"] / 2} for line in HISTORY]
    plots.plot_curves(history, TrainerConfig(monitor="val/macro_f1"), tmp_path / "curves.png")
    panels = figures["curves.png"].axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "accuracy", "macro_f1"]
    assert curves(panels[2]) == {"val": [[1, 0.25], [2, 0.375], [3, 0.4375]]}


@pytest.mark.parametrize("epochs", [1, 3])
def test_runs_have_their_mean_and_a_band(epochs: int, tmp_path: Path, figures: dict[str, Figure]) -> None:
    runs = [[(1, 0.5), (2, 0.75), (3, 1.0)][:epochs], [(1, 0.75), (2, 0.75), (3, 0.75)][:epochs]]
    means = [{"epoch": n, "mean": 0.625 + n / 8, "low": 0.5, "high": 1.0} for n in range(1, epochs + 1)]
    plots.plot_band("val/accuracy", runs, means, "val/accuracy 0.875 over 2 seeds.", tmp_path / "curves.png")
    figure = figures["curves.png"]
    (axes,) = figure.axes
    assert [len(line.get_xydata()) for line in axes.lines] == [epochs] * 3
    assert axes.lines[2].get_xydata().tolist() == [[each["epoch"], each["mean"]] for each in means]
    (band,) = (each for each in axes.collections if each.get_alpha() == 0.2)
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.5, 1.0)
    assert labels(axes, ACROSS) == ["1", "2", "3"][:epochs]
    assert_legible(figure)


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_epochs_on_the_axis_are_whole_and_panels_without_values_left_out(
    epochs: int, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    history = [{"epoch": n, "train/loss": 1 / n, "val/accuracy": float("nan")} for n in range(1, epochs + 1)]
    plots.plot_curves(history, VAL, tmp_path / "curves.png")
    (axes,) = figures["curves.png"].axes
    low, high = axes.get_xlim()
    assert low < 1 <= epochs < high
    shown = labels(axes, ACROSS)
    assert [int(label) for label in shown] == ([20, 40, 60] if epochs == 60 else [1, 2][:epochs])
    assert axes.lines[0].get_marker() == ("." if epochs < 60 else "")


def test_own_scores_have_a_panel_a_name_and_the_monitored_one_is_the_first(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    names = ["train_loss", "val/loss", *(f"score {n}" for n in range(6)), "val_dice"]
    history = [{"epoch": n, "step": n, **dict.fromkeys(names, 0.5 + n / 10)} for n in (1, 2)]
    plots.plot_scores(history, TrainerConfig(monitor="val_dice", monitor_mode="max"), tmp_path / "scores.png")
    figure = figures["scores.png"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["dice", "loss", "score 0", "score 1", "score 2", "score 3"]
    assert list(curves(figure.axes[1])) == ["train_loss", "val/loss"]
    assert figure.texts[-1].get_text() == "best epoch: 2, val_dice 0.7; 6 of 8 scores are shown"
    assert_legible(figure)


def test_a_confusion_matrix_has_a_row_a_true_class(tmp_path: Path, figures: dict[str, Figure]) -> None:
    target, label = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 1, 1])
    plots.plot_confusion(target, label, ["cat", "dog"], "mine: val", tmp_path / "confusion.png")
    figure = figures["confusion.png"]
    (axes,) = figure.axes
    (shades,) = axes.images
    assert np.asarray(shades.get_array()).tolist() == [[0.25, 0.75], [0, 1]]  # shares of the true class
    cells = {
        (text.get_position()[1], text.get_position()[0]): text.get_text()
        for text in axes.texts
        if "%" in text.get_text()
    }
    assert cells == {(0, 0): "1\n25%", (0, 1): "3\n75%", (1, 1): "2\n100%"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert figure.texts[0].get_text() == "mine: val\nimages, and their share of the true class"
    assert labels(axes, ACROSS) == labels(axes, DOWN) == ["cat", "dog"]
    assert to_hex(shades.cmap(shades.norm(0))) == "#ffffff"
    assert_legible(figure)


def test_a_share_is_rounded_but_never_to_none_or_all(tmp_path: Path, figures: dict[str, Figure]) -> None:
    target, label = np.zeros(1000, int), np.r_[np.zeros(997, int), [1, 1, 1]]
    plots.plot_confusion(target, label, ["cat", "dog"], "val", tmp_path / "confusion.png")
    assert inside(figures["confusion.png"].axes[0]) == ["997\n>99%", "3\n<1%"]


@pytest.mark.parametrize("names", [["a", "b"], [*"0123456789"], LONG, [f"class {n}" for n in range(30)]])
def test_a_confusion_matrix_is_square_and_its_names_are_whole(
    names: list[str], tmp_path: Path, figures: dict[str, Figure]
) -> None:
    every = np.arange(len(names))
    plots.plot_confusion(every, np.roll(every, 1), names, "a run: val", tmp_path / "confusion.png")
    figure = figures["confusion.png"]
    box = figure.axes[0].get_window_extent()
    assert box.width == pytest.approx(box.height)
    assert_legible(figure)


def test_a_hundred_classes_have_a_list_of_their_confusions_in_place_of_numbers(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    target = np.repeat(np.arange(100), 4)
    label = target.copy()
    label[:3], label[4] = 1, 2  # three of the four images of class 0; one of class 1
    plots.plot_confusion(target, label, [f"class {n}" for n in range(100)], "val", tmp_path / "confusion.png")
    figure = figures["confusion.png"]
    assert inside(figure.axes[0]) == []
    assert figure.texts[1].get_text().splitlines() == [
        "most frequent confusions, true → predicted",
        "3 (75%)  class 0 → class 1",
        "1 (25%)  class 1 → class 2",
    ]
    assert len(labels(figure.axes[0], DOWN)) == 100
    assert max(figure.get_size_inches()) < 21
    assert_legible(figure)


def test_scores_by_class_begin_with_the_worst(tmp_path: Path, figures: dict[str, Figure]) -> None:
    # cat: recall 3/4, precision 1, F1 6/7. dog: recall 1, precision 2/3, F1 4/5. owl: no images, never predicted.
    answers = {"val_target": np.array([0, 0, 0, 0, 1, 1]), "val_label": np.array([0, 0, 0, 1, 1, 1])}
    rows = class_scores(answers, ["cat", "dog", "owl"])
    plots.plot_class_scores(rows, "mine: val", tmp_path / "scores.png")
    figure = figures["scores.png"]
    (axes,) = figure.axes
    assert labels(axes, DOWN) == ["dog  2", "cat  4", "owl  0"]
    drawn = {line.get_label(): line.get_xdata().tolist() for line in axes.lines}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert drawn == {
        "recall (accuracy)": [1, 0.75, nan],
        "precision": [pytest.approx(2 / 3), 1, nan],
        "F1": [pytest.approx(0.8), pytest.approx(6 / 7), nan],
    }
    assert axes.get_ylim() == (2.5, -0.5)  # the first is above
    assert figure.texts[-1].get_text() == "mine: val\nworst class first, with its number of images"
    assert_legible(figure)


def test_only_the_worst_of_many_classes_are_shown(tmp_path: Path, figures: dict[str, Figure]) -> None:
    every = np.arange(50)
    label = np.where(every < 49, every, 0)  # the last class is taken for the first
    rows = class_scores({"val_target": every, "val_label": label}, [f"class {n}" for n in every])
    plots.plot_class_scores(rows, "val", tmp_path / "scores.png")
    names = labels(figures["scores.png"].axes[0], DOWN)
    assert (len(names), names[0], names[1]) == (25, "class 49  1", "class 0  1")  # F1 0 and 2/3
    assert "the 25 worst of 50 classes" in figures["scores.png"].texts[-1].get_text()


def test_mistakes_are_the_wrong_answers_the_most_confident_first(tmp_path: Path, figures: dict[str, Figure]) -> None:
    probabilities = np.array([[0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]], np.float32)  # the first and third: wrong
    plots.plot_mistakes(SUBSET, probabilities, ["cat", "dog"], "val", tmp_path / "mistakes.png")
    (axes,) = figures["mistakes.png"].axes
    assert axes.get_title() == (
        "val: 2 of 4 wrong; the most confident mistakes, with the probability of the predicted class"
    )
    assert texts(axes) == ["dog (90%)\nis cat", "cat (60%)\nis dog"]
    assert brightness(axes) == [30, 50]
    assert_legible(figures["mistakes.png"])


def test_no_mistakes_leave_a_picture_that_says_so(tmp_path: Path, figures: dict[str, Figure]) -> None:
    right = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]], np.float32)
    plots.plot_mistakes(SUBSET, right, ["cat", "dog"], "val", tmp_path / "mistakes.png")
    (axes,) = figures["mistakes.png"].axes
    assert (axes.get_title(), texts(axes)) == ("val: 0 of 4 wrong", [])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 40), (40, 12), (4, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_proportions_and_captions_their_places(
    height: int, width: int, channels: int, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    images = np.zeros((30, height, width, channels), np.uint8)
    subset = Subset(images, np.arange(30) % 3, np.arange(30))
    wrong = np.eye(3, dtype=np.float32)[(np.arange(30) + 1) % 3]
    plots.plot_mistakes(subset, wrong, LONG, "val", tmp_path / "mistakes.png")
    figure = figures["mistakes.png"]
    (axes,) = figure.axes
    for image in axes.images:
        box = image.get_window_extent(renderer(figure))
        assert box.width / box.height == pytest.approx(width / height)
    assert len(axes.images) == 24
    assert_legible(figure)
    captions = [text.get_window_extent(renderer(figure)) for text in axes.texts]
    for image in axes.images:
        assert not any(image.get_window_extent(renderer(figure)).shrunk(0.9, 0.9).overlaps(box) for box in captions)


@pytest.mark.parametrize(("images", "shown"), [(24, 24), (25, 24)])
def test_no_more_mistakes_are_shown_than_there_is_room_for(
    images: int, shown: int, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    subset = Subset(np.zeros((images, 2, 2, 1), np.uint8), np.zeros(images, np.int64), np.arange(images))
    plots.plot_mistakes(subset, np.tile(np.float32([0.1, 0.9]), (images, 1)), ["a", "b"], "val", tmp_path / "many.png")
    (axes,) = figures["many.png"].axes
    assert len(axes.images) == len(axes.texts) == shown


def report_of(findings: list[Finding]) -> DataReport:
    splits = {
        "train": {"count": 5, "classes": {"cat": 3, "dog": 2}},
        "val": {"count": 1, "classes": {"cat": 0, "dog": 1}},
    }
    return DataReport(splits=splits, findings=findings)


def finding(kind: str, split: str, count: int, examples: list[dict[str, Any]]) -> Finding:
    return Finding(kind=kind, split=split, count=count, message="", examples=examples, policy="report")


def test_a_data_report_counts_classes_by_split_and_shows_what_was_found(
    tmp_path: Path, figures: dict[str, Figure]
) -> None:
    report = report_of(
        [
            finding("duplicates", "train", 2, [{"index": 4}, {"index": 2}]),
            finding("label_gaps", "val", 1, [{"class": 1}]),
        ]
    )
    plots.plot_data_report(report, {"train": SUBSET, "val": SUBSET}, tmp_path / "report.png")
    figure = figures["report.png"]
    bars, faults = figure.axes
    lengths = {group.get_label(): [(bar.get_x(), bar.get_width()) for bar in group] for group in bars.containers}
    assert lengths == {"train": [(0, 3), (0, 2)], "val": [(3, 0), (2, 1)]}
    assert labels(bars, DOWN) == ["cat", "dog"]
    assert {text.get_text() for text in figure.texts} == {"■", "train: 5", "val: 1"}
    assert texts(faults) == ["train: duplicates 2, report", "4", "2", "val: label_gaps 1, report"]
    assert brightness(faults) == [40, 20]
    assert_legible(figure)


@pytest.mark.parametrize("kinds", [0, 12])
def test_a_data_report_has_room_for_few_and_many_findings(
    kinds: int, tmp_path: Path, figures: dict[str, Figure]
) -> None:
    many = [{"index": index} for index in range(6)] * 10
    report = report_of([finding(f"conflicting_labels_{kind}", "train", 60, many) for kind in range(kinds)])
    wide = Subset(np.zeros((6, 12, 40, 3), np.uint8), np.zeros(6, np.int64), np.arange(6))
    plots.plot_data_report(report, {"train": wide, "val": wide}, tmp_path / "report.png")
    figure = figures["report.png"]
    for image in figure.axes[1].images:
        box = image.get_window_extent(renderer(figure))
        assert box.width / box.height == pytest.approx(40 / 12)
    assert bool(figure.axes[1].images) == bool(kinds)
    assert texts(figure.axes[1])[0] == ("train: conflicting_labels_0 60, report" if kinds else "no faults found")
    assert_legible(figure)


def test_names_of_classes_are_no_formulas_and_are_cut(tmp_path: Path, figures: dict[str, Figure]) -> None:
    names, target = [r"$\frac{$", "b" * 100_000 + "\nz"], np.array([0, 1])
    plots.plot_confusion(target, target, names, r"$\x$: val", tmp_path / "confusion.png")
    figure = figures["confusion.png"]
    first, second = labels(figure.axes[0], ACROSS)
    assert first == r"\$\frac{\$"
    assert second.startswith("bbbb")
    assert second.endswith(r"b\nz")
    assert max(figure.get_size_inches()) < 6
    assert_legible(figure)
    plots.plot_mistakes(SUBSET, np.array([[0.9, 0.1]] * 4, np.float32), names, "val", tmp_path / "mistakes.png")
    caption = texts(figures["mistakes.png"].axes[0])[0]
    assert caption.startswith(r"\$\frac{\$ (90%)" + "\nis bbb")
    assert len(caption.splitlines()) == 2
    assert_legible(figures["mistakes.png"])


def test_drawing_leaves_the_settings_of_the_process_as_they_were(tmp_path: Path, figures: dict[str, Figure]) -> None:
    before = dict(rcParams)
    rcParams["text.color"] = "red"
    try:
        plots.plot_curves(HISTORY, VAL, tmp_path / "curves.png")
        assert rcParams["text.color"] == "red"
    finally:
        rcParams["text.color"] = before["text.color"]
    assert dict(rcParams) == before
    assert figures["curves.png"].texts[-1].get_color() == style.INK
