"""The score that runs are ranked and tested by: their accuracy on val, or on test where all of them have read it."""

from collections.abc import Iterable
from typing import Literal

from experiments.tracking.runs import RunSummary

Split = Literal["val", "test"]


def split_of(runs: Iterable[RunSummary]) -> Split:
    """`test` if all runs that have ended well have read it: trials never do."""
    done = [run for run in runs if score(run, "val") is not None]
    return "test" if done and all("test/accuracy" in run.metrics for run in done) else "val"


def score(run: RunSummary, split: Split) -> float | None:
    """The accuracy of the weights that a run kept; None of one that was pruned or failed."""
    if split == "test" or "value" not in run.metrics:
        return run.metrics.get("test/accuracy") if split == "test" else None
    is_accuracy = run.params.get("trainer.monitor", "val/accuracy") == "val/accuracy"
    return run.metrics["value"] if is_accuracy else run.metrics.get("val/accuracy")


def ranked(runs: Iterable[RunSummary], split: Split) -> list[RunSummary]:
    """Those that have a score, the highest first; of equal ones in the order given."""
    scores = [(run, score(run, split)) for run in runs]
    found = [(run, value) for run, value in scores if value is not None]
    return [run for run, _ in sorted(found, key=lambda pair: -pair[1])]
