"""Results as a notebook shows them: parts of HTML, such as tables, and pandas tables. See `Shown`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape as escaped_html
from typing import TYPE_CHECKING, Any

from lightning_modules.showable import showable_lines

if TYPE_CHECKING:  # comes with MLflow, and takes half a second
    from pandas import DataFrame


def escape(text: str) -> str:
    """Returns a text as HTML, with what is unsafe to show as escapes."""
    return escaped_html(showable_lines(text))


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads somewhere."""

    text: str
    url: str


def link(text: str, url: str) -> str:
    return f"<p>{_cell(Link(text, url))}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table. A cell is a Link, a number, which gets four digits after the point, or is shown as its text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = ["<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *body, "</tbody></table>"])


def _cell(cell: object) -> str:
    match cell:
        case Link(text, url):
            return f'<a href="{escaped_html(url)}">{escape(text)}</a>'
        case float():
            return f"{cell:.4f}"
        case None:
            return ""
        case _:
            return escape(str(cell))


class Shown(ABC):
    """A result that a notebook shows as HTML, and that becomes a pandas table."""

    @abstractmethod
    def html_parts(self) -> Iterable[str]:
        """Returns the parts of its page: texts and tables."""

    @abstractmethod
    def rows(self) -> Iterable[Mapping[str, Any]]:
        """Returns the rows of its table, each as {column: value}."""

    def _repr_html_(self) -> str:
        return "\n".join(filter(None, self.html_parts()))

    def to_pandas(self) -> "DataFrame":
        from pandas import DataFrame

        return DataFrame(list(self.rows()))
