"""Saves figures as PNG files with a palette: less than half as large, and written faster."""

from os import PathLike
from typing import IO, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

_MOST_COLOURS = (
    4096  # drawings have a few hundred, nearly all of them edges of lines and letters; photographs have more
)


def save_small(figure: Figure, path: "str | PathLike[str]", dpi: int) -> None:
    """Saves the figure as a PNG file. One that shows colour photographs gets no palette, and loses nothing."""
    _SmallPng(figure)  # is the figure's canvas from now on
    figure.savefig(path, dpi=dpi)


class _SmallPng(FigureCanvasAgg):
    """Draws as matplotlib does, and writes PNG files of its own."""

    def print_png(self, filename_or_obj: "str | PathLike[str] | IO[bytes]", **_: Any) -> None:
        self.draw()  # type: ignore[no-untyped-call]
        drawn = Image.fromarray(np.asarray(self.buffer_rgba()))  # type: ignore[no-untyped-call]
        with_palette(drawn.convert("RGB")).save(filename_or_obj, "PNG")


def with_palette(image: Image.Image) -> Image.Image:
    """Returns an RGB image with a palette of its 256 most frequent colours; others become the nearest of these.

    An image of more than `_MOST_COLOURS` colours is returned as it is.
    """
    counted = image.getcolors(_MOST_COLOURS)
    if counted is None:
        return image
    colours = np.array([colour for _, colour in sorted(counted, reverse=True)], np.int64)  # (n, 3)
    distances = np.square(colours[256:, None] - colours[None, :256]).sum(axis=2)
    places = np.zeros(2**24, np.uint8)  # of each colour in the palette; the system gives memory only for those set
    places[_as_numbers(colours)] = [*range(len(colours[:256])), *distances.argmin(axis=1)]
    small = Image.fromarray(places[_as_numbers(np.asarray(image))])
    small.putpalette(colours[:256].astype(np.uint8).tobytes())
    return small


def _as_numbers(colours: NDArray[Any]) -> NDArray[Any]:
    """Returns one number per colour (…, 3)."""
    wide = colours.astype(np.uint32)
    numbers: NDArray[Any] = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return numbers
