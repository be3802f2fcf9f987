"""Which scores of the runs cannot be compared, and why."""

from collections.abc import Collection, Mapping, Sequence

from experiments.comparison.differences import Recorded
from experiments.comparison.objective import Objective
from experiments.tracking.runs import RunSummary

_SPLITS = ("train", "val", "test")
_NAMED = 5  # how many runs a note names


def without_score(runs: Sequence[RunSummary], objective: Objective) -> list[str]:
    """Returns a note on the runs that have no score, and one on those that have one but did not end well."""
    missing = [run for run in runs if objective.score(run) is None]
    broken = [run for run in runs if run not in missing and _outcome(run) != "finished"]
    texts = {f"not compared, since they have no {objective.logged}": missing, "compared, but not finished": broken}
    return [f"{text}: {_by_outcome(found)}" for text, found in texts.items() if found]


def _by_outcome(runs: Sequence[RunSummary]) -> str:
    outcomes: dict[str, list[RunSummary]] = {}
    for run in runs:
        outcomes.setdefault(_outcome(run), []).append(run)
    return " | ".join(f"{names(same)}, {outcome}" for outcome, same in outcomes.items())


def _outcome(run: RunSummary) -> str:
    return run.outcome or run.status.lower()


def different_images(runs: Sequence[Recorded]) -> dict[str, str]:
    """Returns the splits on which runs have scores of different images, each with what differs."""
    parts = {split: same_images([each for each in runs if _has_scores(each, split)], split) for split in _SPLITS}
    return {split: what_differs(found, split) for split, found in parts.items() if len(found) > 1}


def _has_scores(recorded: Recorded, split: str) -> bool:
    return any(name.startswith(f"{split}/") for name in recorded.run.metrics)


def cannot_be_compared(different: Mapping[str, str], told: Collection[str]) -> list[str]:
    """Returns notes on these splits, one for each reason; none on the splits in `told`."""
    reasons: dict[str, list[str]] = {}
    for split, why in different.items():
        if split not in told:
            reasons.setdefault(why, []).append(split)
    return [
        f"{' and '.join(splits)} scores are on different images and cannot be compared: {why}"
        for why, splits in reasons.items()
    ]


def same_images(runs: Sequence[Recorded], split: str) -> list[list[Recorded]]:
    """Divides the runs whose images are known into those that have the same images of a split in the same order."""
    parts: dict[tuple[str | None, str | None], list[Recorded]] = {}
    for each in runs:
        if each.provenance is not None:
            parts.setdefault((each.data_sha256, each.provenance["split_sha256"].get(split)), []).append(each)
    return list(parts.values())


def what_differs(parts: Sequence[Sequence[Recorded]], split: str) -> str:
    """Says whether the data or only the splits of these parts differ, and which runs each part has."""
    what = "data" if len({part[0].data_sha256 for part in parts}) > 1 else f"{split} splits"
    return f"their {what} differ: " + " | ".join(names([each.run for each in part]) for part in parts)


def names(runs: Sequence[RunSummary]) -> str:
    named = ", ".join(f"{run.name} ({run.run_id[:8]})" for run in runs[:_NAMED])
    return named + (f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else "")
