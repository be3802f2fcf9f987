"""Measures two versions in turn and compares their times."""

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.processes import Result
from benchmarks.unfinished import Pair, Unfinished

Measure = Callable[[], Result]  # runs one version once


def measure_pairs(ours: Measure, theirs: Measure, pairs: int, kept: Unfinished | None = None) -> dict[str, Any]:
    """Measures so many pairs, and returns their `summary`.

    One more pair runs first and is not counted: it makes the stores and brings the files into memory. `kept` has the
    pairs that an earlier process measured before it was cut off.
    """
    return summary(interleave(ours, theirs, pairs, kept))


def summary(results: Sequence[Pair]) -> dict[str, Any]:
    """`ratio`: their seconds divided by ours, the median over the pairs; `spread`: the middle half of the pairs.

    `seconds` (medians), `fastest` and `peak_mb` (the largest) are pairs: ours, theirs; so are `p50_ms` and `p99_ms`
    (medians), where they are measured.
    """
    ratios = [b["seconds"] / a["seconds"] for a, b in results]
    sides = list(zip(*results, strict=True))
    seconds = [[result["seconds"] for result in side] for side in sides]
    latencies = {
        name: [statistics.median(result[name] for result in side) for side in sides]
        for name in ("p50_ms", "p99_ms")
        if name in results[0][0]
    }
    return {
        "ratio": statistics.median(ratios),
        "spread": middle_half(ratios),
        "pairs": len(results),
        "seconds": [statistics.median(side) for side in seconds],
        "fastest": [min(side) for side in seconds],
        "peak_mb": [max(result.get("peak_mb", 0.0) for result in side) for side in sides],
        **latencies,
    }


def interleave(ours: Measure, theirs: Measure, pairs: int, kept: Unfinished | None = None) -> list[Pair]:
    """Runs the two in turn. The first one alternates from pair to pair, so that a drift favours neither."""
    done = [] if kept is None else kept.pairs[:pairs]
    if len(done) < pairs:
        _run(ours, theirs, ours_first=True)
    for number in range(len(done) + 1, pairs + 1):
        pair = _run(ours, theirs, ours_first=number % 2 == 0)
        done.append(pair)
        ratios = [later["seconds"] / first["seconds"] for first, later in done]
        print(f"  pair {number} of {pairs}: {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}", file=sys.stderr)
        if kept is not None:
            kept.add(pair)
    if kept is not None:
        kept.forget()
    return done


def _run(ours: Measure, theirs: Measure, *, ours_first: bool) -> Pair:
    if ours_first:
        return ours(), theirs()
    later = theirs()
    return ours(), later


def middle_half(values: list[float]) -> tuple[float, float]:
    """The quartiles between which half of the values lie."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
