"""Fonts for the characters of class names, with and without a font that has them; widths and shortening."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from experiments.pictures import lettering, plots
from experiments.pictures.lettering import Letters
from experiments.pictures.sheet import DOWN

CAT, DOG = "猫", "犬"  # DejaVu Sans, which comes with matplotlib, has neither
TARGET = np.array([0, 1, 2])


def font_with(characters: str, path: Path) -> Path:
    """Makes a font whose characters are squares as wide as an em."""
    names = {ord(character): f"uni{ord(character):04X}" for character in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for point in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Own Sans CJK", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[font_manager.FontManager]:
    """The fonts of matplotlib alone, to which a test may add some."""
    manager = font_manager.fontManager
    own = [font for font in manager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(manager, "ttflist", own)
    monkeypatch.setattr(lettering, "_family_of", {})
    manager._findfont_cached.cache_clear()
    yield manager
    manager._findfont_cached.cache_clear()


def tick_names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_gid() == DOWN]


def draw(names: list[str], folder: Path, figures: dict[str, Figure]) -> Figure:
    plots.plot_confusion(TARGET, TARGET, names, "val", folder / "confusion.png")  # a missing glyph would be a warning
    return figures["confusion.png"]


def test_a_character_without_a_font_is_an_escape_beside_the_number_of_the_class(
    tmp_path: Path,
    figures: dict[str, Figure],
    fonts: font_manager.FontManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "workbench"):
        figure = draw(["é", f"{CAT} (cat)", DOG], tmp_path, figures)
        draw(["é", CAT, DOG], tmp_path, figures)
    assert tick_names(figure) == ["é", r"1: \u732b (cat)", r"2: \u72ac"]
    (message,) = caplog.messages  # once
    assert message.startswith(f"no installed font has the characters {DOG} {CAT}: pictures show \\u72ac for {DOG}")


def test_a_font_that_has_the_character_draws_it(
    tmp_path: Path,
    figures: dict[str, Figure],
    fonts: font_manager.FontManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fonts.addfont(font_with(CAT, tmp_path / "own.ttf"))
    figure = draw(["é", f"{CAT} (cat)", DOG], tmp_path, figures)
    assert tick_names(figure) == ["é", f"{CAT} (cat)", r"2: \u72ac"]
    label = next(text for text in figure.axes[0].texts if CAT in text.get_text())
    assert label.get_fontfamily() == ["DejaVu Sans", "Own Sans CJK"]
    assert DOG in caplog.text
    assert CAT not in caplog.text


def test_the_width_of_a_text_is_that_of_its_own_font(tmp_path: Path, fonts: font_manager.FontManager) -> None:
    fonts.addfont(font_with(CAT, tmp_path / "own.ttf"))
    letters = Letters.of([CAT])
    em = lettering.FONT_SIZE / 72  # inches
    assert letters.width(CAT * 11) - letters.width(CAT) == pytest.approx(10 * em, rel=0.06)  # whole pixels


@pytest.mark.parametrize("character", ["😀", "ع", "ק", "→"])
def test_matplotlib_s_own_font_has_many_characters(character: str, fonts: font_manager.FontManager) -> None:
    assert Letters.of([character]) == Letters(("DejaVu Sans",), frozenset())


def test_a_long_text_loses_its_middle() -> None:
    letters = Letters.of(())
    text = "American black bear, Ursus americanus"
    short = letters.fit(text, 1)
    start, end = short.split("…")
    assert text.startswith(start)
    assert text.endswith(end)
    assert abs(len(start) - len(end)) <= 1
    assert letters.width(short) <= 1 < letters.width(f"{start}nn…{end}")
    assert letters.fit(text, 9) == text


def test_what_would_rewrite_a_terminal_or_begin_a_formula_is_shown_as_it_is() -> None:
    assert Letters.of(["\x1b$x$\n"]).fit("\x1b$x$\n", 9) == r"\x1b\$x\$\n"
