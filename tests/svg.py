"""Reads pages as a browser would: texts, addresses, and the marks of charts with their places."""

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Mark:
    """An element: its name, its attributes, and the texts in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""

    def share(self, name: str) -> float:
        """Returns a place that is given in percent."""
        return float(self.attributes[name].removesuffix("%")) / 100


@dataclass
class Page:
    """`charts`: the marks in each `svg`, by its label."""

    text: str = ""
    data: str = ""
    addresses: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    charts: dict[str, list[Mark]] = field(default_factory=dict)
    rows: list[list[str]] = field(default_factory=list)  # the cells of all tables' rows


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._open: list[str] = []
        self._chart: list[Mark] | None = None
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.page.addresses += [value for name, value in attributes.items() if name in {"src", "href"}]
        if tag == "svg":
            self._depth += 1
            if self._depth == 1:
                label = attributes.get("aria-label", f"strip {len(self.page.charts)}")
                self._chart = self.page.charts.setdefault(label, [])
        if self._chart is not None:
            self._chart.append(Mark(tag, attributes))
        self._open.append(tag)
        if tag == "tr":
            self.page.rows.append([])
        if tag in {"td", "th"}:
            self.page.rows[-1].append("")
        if tag in {"h1", "h2", "h3"}:
            self.page.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass
        if tag == "svg":
            self._depth -= 1
            if self._depth == 0:
                self._chart = None

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.page.data = self.page.data or data
            return
        if "style" in self._open:
            return
        self.page.text += data
        if self._chart:
            self._chart[-1].text += data
        elif {"td", "th"} & set(self._open):
            self.page.rows[-1][-1] += data.strip()
        if self._open and self._open[-1] in {"h1", "h2", "h3"}:
            self.page.headings[-1] += data


def read_page(html: str) -> Page:
    parser = _Parser()
    parser.feed(html)
    return parser.page


def value_at(marks: list[Mark], name: str, share: float) -> float:
    """Returns the number at a place, interpolated between the ticks of the axis. `name`: x or y."""
    ticks = [mark for mark in marks if mark.attributes.get("class") == f"tick {name}"]
    first, *_, last = ticks
    low, high = float(first.text), float(last.text)
    return low + (share - first.share(name)) / (last.share(name) - first.share(name)) * (high - low)
