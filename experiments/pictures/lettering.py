r"""Text in pictures: the fonts that have its characters, and the room that it takes.

matplotlib takes each character from the first of several fonts that has it. Where none has, it would draw a box; here
the character becomes an escape such as `\u732b`, and a class whose name has one also shows its number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import get_hinting_flag
from matplotlib.font_manager import FontEntry, FontProperties
from matplotlib.ft2font import FaceFlags, FT2Font

from lightning_modules.log import LOG
from lightning_modules.showable import escaped, showable

FONT_SIZE, DPI = 9, 100  # of all pictures; a size in points
LINE = 0.15  # inches from one line of text to the next

_FIRST = "DejaVu Sans"  # comes with matplotlib
_NO_FONTS = {"Last Resort High-Efficiency", "LastResort"}  # has a box for every character
_MOST = 400  # characters that are measured
_IN_WARNING = 10

_family_of: dict[str, str | None] = {}  # by character; None: no font has it


@dataclass(frozen=True)
class Letters:
    """What is needed to draw some texts: font `families` for matplotlib, and the characters that none of them has."""

    families: tuple[str, ...]
    missing: frozenset[str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Letters":
        """Looks for fonts with the characters of the texts. Warns of missing ones, once in a process."""
        characters = sorted({character for text in texts for character in showable(_shortened(text, _MOST))})
        _look_for(characters)
        families = dict.fromkeys([_FIRST, *filter(None, map(_family_of.__getitem__, characters))])
        missing = frozenset(character for character in characters if _family_of[character] is None)
        return cls(tuple(families), missing)

    def of_classes(self, names: Sequence[str]) -> list[str]:
        """Returns the names in one line, each with the number of its class if one of its characters is missing."""
        shown = [showable(_shortened(name, _MOST)) for name in names]
        return [f"{number}: {name}" if self.missing & {*name} else name for number, name in enumerate(shown)]

    def fit(self, text: str, room: float) -> str:
        """Returns the text as matplotlib shall draw it, in one line, shortened in its middle to `room` inches."""
        shown = "".join(map(self._drawable, showable(_shortened(text, _MOST))))
        if self.width(shown) > room:
            few, many = 1, len(shown)  # the first fits or nothing does; the second does not fit
            while many - few > 1:
                half = (few + many) // 2
                few, many = (half, many) if self.width(_shortened(shown, half)) <= room else (few, half)
            shown = _shortened(shown, few)
        return shown.replace("$", r"\$")  # matplotlib would read what is between two dollar signs as a formula

    def width(self, text: str) -> float:
        """Returns the width of a text in inches."""
        font = font_manager.get_font([_file_of(family) for family in self.families])
        font.set_size(FONT_SIZE, DPI)  # the renderer uses the same object
        font.set_text(text, flags=get_hinting_flag())  # type: ignore[no-untyped-call]
        return font.get_width_height()[0] / 64 / DPI

    def _drawable(self, character: str) -> str:
        return escaped(character) if character in self.missing else character


def _shortened(text: str, most: int) -> str:
    """Keeps `most` characters, from both ends: names often begin alike."""
    return text if len(text) <= most else f"{text[: (most + 1) // 2]}…{text[len(text) - most // 2 :]}"


def _look_for(characters: Iterable[str]) -> None:
    missing = set(characters) - _family_of.keys()
    for entry in _fonts() if missing else ():
        font = FT2Font(entry.fname, face_index=entry.index)
        if not font.scalable or FaceFlags.COLOR in font.face_flags:  # emoji, which matplotlib cannot draw
            continue
        found = {character for character in missing if font.get_char_index(ord(character))}
        _family_of.update(dict.fromkeys(found, entry.name))
        if not (missing := missing - found):
            return
    _family_of.update(dict.fromkeys(missing))
    if missing:
        _warn(sorted(missing))


def _fonts() -> Iterator[FontEntry]:
    """Yields the regular font of each installed family: `_FIRST`, then those without serifs, then the others."""
    families: dict[str, FontEntry] = {}
    for entry in font_manager.fontManager.ttflist:
        if (entry.style, entry.variant, entry.weight) == ("normal", "normal", 400) and entry.name not in _NO_FONTS:
            families.setdefault(entry.name, entry)
    yield from sorted(families.values(), key=lambda font: (font.name != _FIRST, "Sans" not in font.name, font.name))


@cache
def _file_of(family: str) -> str:
    return font_manager.fontManager.findfont(FontProperties(family=family))


def _warn(missing: Sequence[str]) -> None:
    shown = " ".join(missing[:_IN_WARNING]) + (" …" if len(missing) > _IN_WARNING else "")
    cache = Path(matplotlib.get_cachedir()) / "fontlist-*.json"
    LOG.warning(
        f"no installed font has the characters {shown}: pictures show {escaped(missing[0])} for {missing[0]}; "
        f"install a font that has them, such as Noto Sans CJK, and delete matplotlib's list of fonts, {cache}"
    )
