"""How all pictures look: one font size, light grids, and colours that colour-blind people can tell apart.

The style is set while one picture is drawn. The settings of the process, which are the user's, stay as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap

from experiments.pictures.lettering import FONT_SIZE, Letters

# Okabe and Ito (2008), Color universal design, without their yellow, which is too light for lines on white.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
)
CATEGORIES = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK)
VALUES = "viridis"  # colours of numbers, from low to high
_SHADES = 20  # few, so that files are small: see small_png.py


def _of_shares() -> Colormap:
    """Returns viridis from its light end, whose lowest colours fade into white: most confusions are a few percent."""
    shades = colormaps[VALUES].reversed().resampled(_SHADES)(range(_SHADES))
    strength = np.minimum(1, 0.4 + 0.2 * np.arange(_SHADES))[:, None]
    return ListedColormap(strength * shades + (1 - strength)).with_extremes(under="white")


SHARES = _of_shares()  # of a share between 0 and 1; 0 is white
GRID, THIN = "#DDDDDD", 0.6  # the lines of a grid, and their width in points
INK = "#222222"

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#999999",
    "axes.facecolor": "white",
    "axes.formatter.useoffset": False,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=CATEGORIES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": FONT_SIZE,
    "axes.titleweight": "normal",
    "axes.titley": 1.0,  # else matplotlib looks for ticks above the axes
    "figure.facecolor": "white",
    "font.size": FONT_SIZE,
    "font.style": "normal",
    "font.weight": "normal",
    "grid.color": GRID,
    "grid.linewidth": THIN,
    "image.cmap": VALUES,
    "legend.fontsize": FONT_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 6,
    "savefig.bbox": None,
    "savefig.facecolor": "auto",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": "#999999",
    "xtick.labelcolor": INK,
    "xtick.labelsize": FONT_SIZE,
    "ytick.color": "#999999",
    "ytick.labelcolor": INK,
    "ytick.labelsize": FONT_SIZE,
}


def ink_on(colour: Sequence[float]) -> str:
    """Returns the colour of text on a background (red, green, blue, …): that with the higher contrast of WCAG 2."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


@contextmanager
def in_style(texts: Iterable[str] = ()) -> Iterator[Letters]:
    """Sets the style while a picture is drawn. `texts`: those from outside that it shows, as they are."""
    letters = Letters.of(texts)
    with matplotlib.rc_context({**_STYLE, "font.family": letters.families}):
        yield letters
