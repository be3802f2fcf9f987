"""Measures two versions in turn and compares their times."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.processes import Result

Measure = Callable[[], Result]  # runs one version once


def measure_pairs(ours: Measure, theirs: Measure, pairs: int) -> dict[str, Any]:
    """`ratio`: their seconds divided by ours, the median over the pairs; `spread`: the middle half of the pairs.

    `seconds` (medians), `fastest` and `peak_mb` (the largest) are pairs: ours, theirs; so are `p50_ms` and `p99_ms`
    (medians), where they are measured. One more pair runs first and is not counted: it makes the stores and brings the
    files into memory.
    """
    results = interleave(ours, theirs, pairs + 1)[1:]
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
        "pairs": pairs,
        "seconds": [statistics.median(side) for side in seconds],
        "fastest": [min(side) for side in seconds],
        "peak_mb": [max(result.get("peak_mb", 0.0) for result in side) for side in sides],
        **latencies,
    }


def interleave(ours: Measure, theirs: Measure, pairs: int) -> list[tuple[Result, Result]]:
    """Runs the two in turn. The first one alternates from pair to pair, so that a drift favours neither."""
    results = []
    for pair in range(pairs):
        if pair % 2 == 0:
            results.append((ours(), theirs()))
        else:
            later = theirs()
            results.append((ours(), later))
    return results


def middle_half(values: list[float]) -> tuple[float, float]:
    """The quartiles between which half of the values lie."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
