"""Prints tables that fit the screen: no name is cut or broken, whatever the width."""

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

_UNLIMITED = 400  # characters of a line in a file or a pipe, where no table is made to fit
_INDENT = "  "


def screen_width() -> int:
    """Returns the characters in a line of the terminal, or of a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED


def new_table(columns: Sequence[str], prose: Collection[str]) -> "Table":
    """Returns an empty table. The cells of columns in `prose` may be wrapped between words, all others stay whole."""
    from rich import box
    from rich.table import Column, Table

    return Table(*(Column(name, no_wrap=name not in prose) for name in columns), box=box.SIMPLE_HEAD)


def print_fitting(shown: "Table") -> None:
    """Prints the table; if it is too wide, with narrow columns of prose, or else with its columns below each other."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, width=screen_width())  # a name like [/x] is a name, not markup
    if console.measure(shown).maximum > console.width:
        shown.show_edge, shown.padding = False, (0, 1, 0, 0)
        if not _narrow(console, shown):
            _print_stacked(shown)
            return
    console.print(shown)


def _narrow(console: "Console", shown: "Table") -> bool:
    """Gives each column its width: prose shares what the others leave. Returns whether all words have room."""
    least, most = (list(widths) for widths in zip(*(_widths(console, column) for column in shown.columns), strict=True))
    gaps = 2 * (len(least) - 1) + 1
    free = console.width - gaps - sum(least)
    if free < 0:
        return False
    wanting = sorted(range(len(least)), key=lambda index: most[index] - least[index])
    for place, index in enumerate(wanting):
        given = min(most[index] - least[index], free // (len(wanting) - place))
        free -= given
        shown.columns[index].width = least[index] + given
    return True


def _widths(console: "Console", column: "Column") -> tuple[int, int]:
    """Returns the least width of a column, at which all its words are whole, and the width that it would like."""
    measured = [console.measure(cell) for cell in (column.header, *column.cells)]
    most = max(each.maximum for each in measured)
    return (most if column.no_wrap else max(each.minimum for each in measured)), most


def _print_stacked(shown: "Table") -> None:
    """Prints each row as a block: its first cell, and below it a line for every other cell that is not empty."""
    headers = [" ".join(str(column.header).split()) for column in shown.columns]
    label = max(map(len, headers))
    for row in zip(*(column.cells for column in shown.columns), strict=True):
        first, *others = [(header, str(cell)) for header, cell in zip(headers, row, strict=True) if cell]
        print(" ".join(filter(None, first)))
        for header, cell in others:
            print_prose(cell, f"{_INDENT}{header:<{label}}{_INDENT}")
    if shown.caption:
        print_prose(str(shown.caption))


def print_prose(text: str, label: str = "") -> None:
    """Prints lines that are wrapped between words. `label` stands before the first one, and space before the others."""
    width = max(screen_width() - 1, len(label) + 1)  # a word that is longer is left to the terminal
    for line in text.splitlines():
        wrapper = textwrap.TextWrapper(width, initial_indent=label, subsequent_indent=" " * len(label))
        wrapper.break_long_words = wrapper.break_on_hyphens = False
        print(wrapper.fill(line))
        label = " " * len(label)
