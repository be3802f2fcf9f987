"""Parallel coordinates: an axis for each field, a line for each run, from its settings to its score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.pages.scales import AnyScale, Categories, shade

_BEFORE = -0.02  # where a run stands that has no value


@dataclass(frozen=True)
class Axis:
    """The axis of one field."""

    path: str
    scale: AnyScale

    def share(self, value: Any) -> float:
        """Returns where a value stands; a run without one stands before the axis."""
        return _BEFORE if value is None else self.scale.share(value)

    def for_script(self) -> dict[str, Any]:
        """Returns what the script needs to name a place on the axis."""
        if isinstance(self.scale, Categories):
            return {"path": self.path, "choices": list(self.scale.values)}
        return {"path": self.path, "low": self.scale.low, "high": self.scale.high, "log": self.scale.log}


@dataclass(frozen=True)
class Line:
    """One run: its share of each axis, from the first to the last."""

    key: Any
    shade: int  # 0 is the worst, 9 the best
    shares: list[float]


def lines(rows: Mapping[Any, Mapping[str, Any]], axes: Sequence[Axis], sign: int) -> list[Line]:
    """Returns a line for each row {path: value}; the best last, so that it is drawn on top.

    The last axis is the score; `sign`: 1 if a higher one is better, else -1.
    """
    found = []
    for key, row in rows.items():
        shares = [axis.share(row.get(axis.path)) for axis in axes]
        found.append(Line(key, shade(shares[-1] if sign > 0 else 1 - shares[-1]), shares))
    return sorted(found, key=lambda line: sign * line.shares[-1])


def for_script(axes: Sequence[Axis], drawn: Sequence[Line]) -> dict[str, Any]:
    """Returns the page's data for the handles on the axes."""
    shares = [[str(line.key), [round(share, 3) for share in line.shares]] for line in drawn]
    return {"axes": [axis.for_script() for axis in axes], "lines": shares}
