"""Two commands timed in turn, A B A B, and what their times say of each other."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Measure = Callable[[], dict[str, Any]]  # runs one version once; its result has `seconds`


@dataclass(frozen=True)
class Ratio:
    """How many times longer `theirs` took than `ours`, pair by pair."""

    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the pairs."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


def interleave(ours: Measure, theirs: Measure, pairs: int) -> tuple[Ratio, list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs the two in turn, the first of each pair alternating; the ratio of their seconds, and all results."""
    results: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            results[which].append((ours, theirs)[which]())
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*results, strict=True)]
    return Ratio(ratios), *results


def child(version: str, *, epochs: int, threads: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Runs one version in a process of its own (benchmarks/child.py)."""
    command = [sys.executable, "-m", "benchmarks.child", version]
    options = {"epochs": epochs, "threads": threads, "folder": folder, "seed": seed}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{version} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
