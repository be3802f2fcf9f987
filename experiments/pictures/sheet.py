"""A figure whose parts are placed in inches, from its top left, with scales and keys that are cheap to draw.

Drawing is the largest part of the cost of tracking a trial. A layout engine would draw each figure twice, and
matplotlib's own ticks would take two thirds of the time.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.pictures import style
from experiments.pictures.lettering import DPI, LINE, Letters
from experiments.pictures.small_png import save_small

ACROSS, DOWN = "across", "down"  # the ids of the texts at scales
_PAD = 0.06  # between a scale and its texts


class Sheet:
    """`width`, `height`: of the whole figure."""

    def __init__(self, width: float, height: float, letters: Letters) -> None:
        self.width, self.height, self._letters = width, height, letters
        self.figure = Figure(figsize=(width, height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Returns axes without scales."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.xaxis.set_visible(False)
        axes.yaxis.set_visible(False)
        return axes

    def bare_axes(self, left: float, width: float) -> Axes:
        """Returns axes from top to bottom, without a frame, whose units are inches, downwards."""
        axes = self.axes(left, 0, width, self.height)
        axes.set(xlim=(0, width), ylim=(self.height, 0))
        axes.set_axis_off()
        return axes

    def scale_across(
        self,
        axes: Axes,
        title: str,
        places: Sequence[float],
        labels: Sequence[str] = (),
        *,
        has_lines: bool = True,
        is_upright: bool = False,
    ) -> None:
        """Writes labels below places of the axes, and the title below them. The limits must be set."""
        labels = labels or [f"{place:g}" for place in places]
        pad, rotation = _PAD / self._inches(axes)[1], 90 if is_upright else 0
        by_place = axes.get_xaxis_transform()
        for place, label in zip(places, labels, strict=True):
            axes.text(place, -pad, label, rotation=rotation, ha="center", va="top", transform=by_place, gid=ACROSS)
        if has_lines:
            axes.vlines(places, 0, 1, style.GRID, linewidth=style.THIN, transform=by_place, zorder=0)
        axes.set_xlabel(title)  # not drawn
        depth = max(map(self._letters.width, labels), default=0) if is_upright else LINE
        axes.text(0.5, -pad * (2 + depth / _PAD), title, ha="center", va="top", transform=axes.transAxes)

    def scale_down(
        self,
        axes: Axes,
        title: str,
        places: Sequence[float],
        labels: Sequence[str] = (),
        *,
        has_lines: bool = True,
    ) -> None:
        """Writes labels left of places of the axes, and the title left of them. The limits must be set."""
        labels = labels or [f"{place:g}" for place in places]
        pad = _PAD / self._inches(axes)[0]
        by_place = axes.get_yaxis_transform()
        for place, label in zip(places, labels, strict=True):
            axes.text(-pad, place, label, ha="right", va="center_baseline", transform=by_place, gid=DOWN)
        if has_lines:
            axes.hlines(places, 0, 1, style.GRID, linewidth=style.THIN, transform=by_place, zorder=0)
        axes.set_ylabel(title)  # not drawn
        widest = max(map(self._letters.width, labels), default=0)
        across = -pad * (2 + widest / _PAD)
        axes.text(across, 0.5, title, rotation=90, ha="right", va="center", transform=axes.transAxes)

    def key(self, right: float, top: float, entries: Sequence[tuple[str, str, str]]) -> None:
        """Writes what signs mean, in one line that ends at `right`. `entries`: sign, its colour, its meaning."""
        for sign, colour, meaning in reversed(entries):
            self.write(right - self._letters.width(meaning), top, meaning)
            right -= self._letters.width(meaning) + 0.05 + self._letters.width(sign)
            self.write(right, top, sign, colour)
            right -= 0.12

    def write(self, left: float, top: float, text: str, colour: str = style.INK) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, va="top", color=colour)

    def save(self, path: Path) -> None:
        save_small(self.figure, path, DPI)

    def _inches(self, axes: Axes) -> tuple[float, float]:
        box = axes.get_position()
        return box.width * self.width, box.height * self.height
