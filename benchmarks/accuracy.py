"""Does the fast version learn as well? Accuracy on test over five seeds, compared with the textbook loop."""

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from benchmarks.comparisons import Setting
from benchmarks.processes import child
from experiments.comparison.statistics import estimate

SEEDS = range(5)


def measure(setting: Setting) -> dict[str, Any]:
    """One tracked run and one textbook PyTorch run per seed.

    Nothing is timed, so two runs train at once, with one thread each. The 95 % interval is Student's t interval of the
    differences, seed by seed.
    """

    def score(version: str, seed: int) -> float:
        accuracy = child(version, folder=setting.folder, epochs=setting.epochs, threads=1, seed=seed)["answer"]
        print(f"{version}, seed {seed}: {accuracy:.4f}", flush=True)
        return float(accuracy)

    with ThreadPoolExecutor(2) as two:
        ours, theirs = (list(two.map(score, [version] * len(SEEDS), SEEDS)) for version in ("tracked", "pytorch"))
    return {
        "name": "tracked against textbook PyTorch",
        "images": setting.images,
        "epochs": setting.epochs,
        "seeds": list(SEEDS),
        "ours": _summary(ours),
        "theirs": _summary(theirs),
        "difference": asdict(estimate([a - b for a, b in zip(ours, theirs, strict=True)])),
    }


def _summary(scores: Sequence[float]) -> dict[str, Any]:
    return {"mean": statistics.mean(scores), "deviation": statistics.stdev(scores), "scores": list(scores)}
