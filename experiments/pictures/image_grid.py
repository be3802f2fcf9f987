"""Images in rows, each in its own proportions, with a caption above. Lengths are in inches.

All are drawn on one axes: an axes per image takes ten times as long to draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.pictures.lettering import LINE, Letters

_GAP = 0.1  # between cells
_LINE = 1.15 * LINE
_TALLEST = 1.4  # of images
# Columns of a page by the width of its images, as a multiple of their height: wide images get wide cells.
_COLUMNS = ((1.5, 8), (2.5, 6), (np.inf, 4))


@dataclass(frozen=True)
class ImageGrid:
    """Rows of cells for images of one shape. A cell has room for `lines` of caption above its image."""

    columns: int
    width: float  # of a cell, with the gap
    image_height: float
    lines: int

    @classmethod
    def of(cls, images: Sequence[NDArray[Any]], width: float, lines: int) -> "ImageGrid":
        """Plans a grid of this width for images (H, W, C)."""
        ratio = images[0].shape[1] / images[0].shape[0] if images else 1
        columns = next(columns for widest, columns in _COLUMNS if ratio <= widest)
        height = min(_TALLEST, (width / columns - _GAP) / ratio)
        return cls(columns, width / columns, height, lines)

    @property
    def height(self) -> float:
        """The height of a row, with the gap."""
        return self.lines * _LINE + 0.05 + self.image_height + _GAP

    def rows(self, images: int) -> int:
        return -(-images // self.columns)

    def draw(
        self, axes: Axes, images: Sequence[NDArray[Any]], captions: Sequence[str], top: float, letters: Letters
    ) -> None:
        """Draws images (H, W, C) downwards from `top`, on axes in inches. Lines of captions are cut to their room."""
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(place, self.columns)
            left, above = column * self.width + _GAP / 2, top + row * self.height
            room = self.width - _GAP
            fitting = "\n".join(letters.fit(line, room) for line in caption.split("\n"))
            middle, below = left + room / 2, above + self.lines * _LINE + 0.03
            axes.text(middle, below, fitting, ha="center", va="bottom", linespacing=1.2)
            scale = min(room / image.shape[1], self.image_height / image.shape[0])
            half, height = scale * image.shape[1] / 2, scale * image.shape[0]
            extent = (middle - half, middle + half, below + 0.02 + height, below + 0.02)
            axes.imshow(_displayable(image), cmap="gray", extent=extent, aspect="auto", vmin=0)


def _displayable(image: NDArray[Any]) -> NDArray[Any]:
    """Returns an image as matplotlib takes it: bytes as they are, other numbers between 0 and 1."""
    image = image.squeeze(-1) if image.shape[-1] == 1 else image
    if image.dtype == np.uint8:
        return image
    finite = image[np.isfinite(image)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    scaled: NDArray[Any] = np.nan_to_num((image - low) / ((high - low) or 1)).clip(0, 1)
    return scaled
