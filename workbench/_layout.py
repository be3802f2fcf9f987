"""Prints tables and sentences that fit the terminal: no name is cut or broken, however narrow it is."""

import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from lightning_modules.showable import NAME, PROSE, showable, showable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

_UNLIMITED = 10_000  # characters of a line in a file or a pipe, where nothing is made to fit
_INDENT = "  "
_READABLE = 200  # characters of a URL that people copy
_CLICKABLE = 2083  # of the longest URL that every terminal with hyperlinks opens
_GAP = 2  # characters between the columns of a table that has to be narrow


def screen_width() -> int:
    """Returns the characters in a line of the terminal, or of a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED


def new_table(columns: Sequence[str], prose: Collection[str]) -> "Table":
    """Returns an empty table. The cells of columns in `prose` may be wrapped between words, all others stay whole."""
    from rich import box
    from rich.table import Column, Table

    return Table(*(Column(name, no_wrap=name not in prose) for name in columns), box=box.SIMPLE_HEAD)


def print_fitting(shown: "Table") -> None:
    """Prints a table. Where it is too wide, it prints, as the first of these fits,

    - the table with its prose wrapped in narrow columns,
    - the table without its widest column of prose, whose cells stand below their rows,
    - a block for each row, with the columns below each other.
    """
    from rich.console import Console

    for column in shown.columns:
        most = NAME if column.no_wrap else PROSE
        column.header = showable_lines(str(column.header), most)
        column._cells[:] = [showable_lines(str(cell), most) for cell in column.cells]
    if shown.caption:
        shown.caption = showable_lines(str(shown.caption))
    console = Console(markup=False, highlight=False, width=screen_width())  # a name like [/x] is a name, not markup
    if console.measure(shown, options=console.options.update(max_width=_UNLIMITED)).maximum <= console.width:
        console.print(shown)
        return
    _narrow_table(shown)
    sizes = [_widths(console, column) for column in shown.columns]
    if _fit_prose(console.width, shown, sizes):
        console.print(shown)
    elif not _print_with_lines_below(console, shown, sizes):
        _print_blocks(shown)
    print()


def _widths(console: "Console", column: "Column") -> tuple[int, int]:
    """Returns the least width of a column, at which all its words are whole, and the width that it would like."""
    options = console.options.update(max_width=_UNLIMITED)
    measured = [console.measure(cell, options=options) for cell in (column.header, *column.cells)]
    most = max(each.maximum for each in measured)
    return (most if column.no_wrap else max(each.minimum for each in measured)), most


def _fit_prose(width: int, shown: "Table", sizes: Sequence[tuple[int, int]]) -> bool:
    """Gives each column its width: prose shares what the others leave. Returns whether all words have room."""
    free = width - _GAP * (len(sizes) - 1) - sum(least for least, _ in sizes)
    if free < 0:
        return False
    wishes = sorted((most - least, index) for index, (least, most) in enumerate(sizes))
    for place, (wish, index) in enumerate(wishes):
        given = min(wish, free // (len(wishes) - place))
        free -= given
        shown.columns[index].width = sizes[index][0] + given
    return True


def _print_with_lines_below(console: "Console", shown: "Table", sizes: Sequence[tuple[int, int]]) -> bool:
    """Prints each row on one line, and the cell of the widest column of prose below it. Returns whether that fits."""
    prose = [(most, index) for index, (_, most) in enumerate(sizes) if not shown.columns[index].no_wrap]
    if not prose:
        return False
    _, widest = max(prose)
    left = [most for index, (_, most) in enumerate(sizes) if index != widest]
    if sum(left) + _GAP * (len(left) - 1) > console.width:
        return False
    others = [column for index, column in enumerate(shown.columns) if index != widest]
    if any("\n" in str(cell) for column in others for cell in (column.header, *column.cells)):
        return False
    rest = _narrow_table(new_table([str(column.header) for column in others], ()))
    for row in zip(*(column.cells for column in others), strict=True):
        rest.add_row(*row)
    with console.capture() as captured:
        console.print(rest)
    header, rule, *lines = captured.get().splitlines()
    print(f"{header}\n{rule}")
    for line, cell in zip(lines, shown.columns[widest].cells, strict=True):
        print(line.rstrip())
        print_prose(str(cell), _INDENT * 2)
    _print_caption(shown)
    return True


def _narrow_table(shown: "Table") -> "Table":
    """Takes the space around a table and most of that between its columns."""
    shown.show_edge, shown.pad_edge, shown.padding = False, False, (0, _GAP - 1, 0, 0)
    return shown


def _print_blocks(shown: "Table") -> None:
    """Prints each row as a block: its first cell, and below it a line for every other cell that is not empty."""
    headers = [str(column.header).partition("\n") for column in shown.columns]
    for name, _, more in headers:
        if more:  # said once, because it may be long
            print_prose(more, f"{name}{_INDENT}")
    label = max(len(name) for name, _, _ in headers)
    for row in zip(*(column.cells for column in shown.columns), strict=True):
        first, *others = [(name, str(cell)) for (name, _, _), cell in zip(headers, row, strict=True) if cell]
        print(" ".join(filter(None, first)))
        for name, cell in others:
            print_prose(cell, f"{_INDENT}{name:<{label}}{_INDENT}")
    _print_caption(shown)


def _print_caption(shown: "Table") -> None:
    if shown.caption:
        print_prose(str(shown.caption))


def csv_cells(cells: Iterable[object]) -> list[object]:
    """Returns the cells of a row of CSV: as they are, except on a terminal, where text must be fit to be shown."""
    is_shown = sys.stdout.isatty()
    return [showable(cell) if is_shown and isinstance(cell, str) else cell for cell in cells]


def print_lines(text: str) -> None:
    """Prints lines as they are, except that what is unsafe to show becomes escapes."""
    print(showable_lines(text), flush=True)


def print_prose(text: str, label: str = "") -> None:
    """Prints lines, wrapped between words on a terminal, with `label` before the first one, and space before others."""
    width = max(screen_width(), len(label) + 1)  # a word that is longer is left to the terminal
    for line in showable_lines(text).splitlines():
        wrapper = textwrap.TextWrapper(width, initial_indent=label, subsequent_indent=" " * len(label))
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        print(wrapper.fill(line))
        label = " " * len(label)


def print_link(label: str, url: str, page: str, too_long: str) -> None:
    """Prints a link to a page: on a terminal that has hyperlinks as a short text that opens it, elsewhere as the URL.

    `page`: what it shows. `too_long`: a sentence that is printed instead of a URL that is too long for what shows it.
    """
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    url, label = showable(url, len(url)), f"{label:<11}"
    console = Console(highlight=False, width=screen_width())
    is_terminal = console.is_terminal and sys.stdout.isatty()  # what has FORCE_COLOR set may be a pipe
    if not is_terminal or console.is_dumb_terminal or console.legacy_windows:
        print_lines(f"{label}{url}") if len(url) <= _READABLE else print_prose(too_long, label)
        return
    shown = (url, f"{page} at {url.partition('/#')[0]}", page)
    text = next((text for text in shown if len(label) + len(text) <= console.width), page)
    console.print(Text.assemble(label, (text, Style(link=url))), soft_wrap=True)
    if len(url) > _CLICKABLE:
        print_prose(too_long, " " * len(label))
