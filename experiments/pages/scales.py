"""Where values stand on an axis, as shares of its length from 0 to 1, and the ticks beside it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator

Point = tuple[float, float]  # a place: shares of the width, and of the height from below

_TICKS = 5
_FAR = 3.0  # quartile ranges from the quartiles: values beyond that are drawn at the edge
_LOG_FROM = 50  # the largest divided by the smallest value
_LONGEST = 24  # characters of a tick


@dataclass(frozen=True)
class Tick:
    share: float
    text: str


@dataclass(frozen=True)
class Scale:
    """A range of numbers, linear or logarithmic. Values outside it stand at its ends."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # whether ticks are whole numbers

    @classmethod
    def around(cls, values: Iterable[float], margin: float = 0.04, *, log: bool = False) -> "Scale":
        """Returns a scale that holds all finite values, with room for marks at both ends."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if log:
            room = (high / low) ** margin if high > low else 2.0
            return cls(low / room, high * room, log=True)
        room = margin * (high - low) or abs(high) * 0.05 or 0.5
        return cls(low - room, high + room)

    @classmethod
    def fitting(cls, values: Sequence[float]) -> "Scale":
        """Like `around`; logarithmic if the values are positive and far apart."""
        return cls.around(values, log=bool(values) and min(values) > 0 and max(values) >= _LOG_FROM * min(values))

    @classmethod
    def robust(cls, values: Sequence[float]) -> "Scale":
        """Like `around`, without values that are far from the others, such as those of trials that diverged."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = np.quantile(finite, [0.25, 0.75])
        far = _FAR * (high - low) or math.inf
        return cls.around([value for value in finite if low - far <= value <= high + far])

    def share(self, value: float) -> float:
        low, high, value = (math.log(n) if self.log else n for n in (self.low, self.high, max(value, self._least)))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def _holds(self, value: float) -> bool:
        margin = 1e-9 * (value if self.log else self.high - self.low)  # for the last digit
        return self.low - margin <= value <= self.high + margin

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf

    @cached_property
    def ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(self.share(value), text) for value, text in self._labelled())

    def _labelled(self) -> list[tuple[float, str]]:
        decades = math.log10(self.high / self.low) if self.log else 0
        if self.log and decades >= 1:
            locator = LogLocator(subs=(1.0,) if decades >= 3 else (1.0, 3.0), numticks=_TICKS + 1)
            found = [float(value) for value in locator.tick_values(self.low, self.high)]
            return [(value, f"{value:g}".replace("e-0", "e-")) for value in found if self._holds(value)]
        values = [
            float(v)
            for v in MaxNLocator(_TICKS, steps=[1, 2, 2.5, 5, 10], integer=self.whole).tick_values(self.low, self.high)
        ]
        values = [value for value in values if self._holds(value)]
        step = min((b - a for a, b in pairwise(values)), default=1.0)
        digits = next((n for n in range(9) if math.isclose(round(step, n), step, rel_tol=1e-6)), 9)
        return [(value, f"{value:z.{digits}f}") for value in values]


@dataclass(frozen=True)
class Categories:
    """Values side by side, evenly spaced, in the order given."""

    values: tuple[Any, ...]

    def share(self, value: Any) -> float:
        return (self.values.index(value) + 0.5) / len(self.values)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(self.share(value), str(value)[:_LONGEST]) for value in self.values)


AnyScale = Scale | Categories


@dataclass(frozen=True)
class Chart:
    """The two scales of a chart."""

    x: AnyScale
    y: AnyScale


def shade(share: float, shades: int = 10) -> int:
    """Returns which of the style's shades, 0 to 9, a share has."""
    return min(int(share * shades), shades - 1)
