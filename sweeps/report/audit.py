"""What a sweep's own trials say against its result: each finding with its remedy, as lines for the recipe.

Reads the result's JSON document alone. Each check is silent unless the trials show the fault clearly: an honest sweep
has no finding.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml

from sweeps.errors import broken_limit
from sweeps.strategy.space import describe

Document = Mapping[str, Any]

_ENOUGH = 10  # completed trials, with fewer of which nothing is said of the search
_TOP = 0.25  # of the completed trials: the good ones
_EDGE = 0.1  # of a range: where the best trial lies; most of the good ones lie within twice that
_LATE = 0.2  # of the trials: the last ones
_MOST_SEEDS = 100  # that are worth it
_OFTEN = 0.25  # of the trials
_NEGLIGIBLE = 0.05  # of the importance


@dataclass(frozen=True)
class Finding:
    """What was found, in a sentence; the field that it concerns; and YAML for the sweep's recipe that may help."""

    finding: str
    field: str
    remedy: str


def audit(document: Document) -> list[dict[str, str]]:
    """Returns the findings as JSON, the gravest first."""
    checks: Sequence[Callable[[Document], Iterator[Finding]]] = (
        _baseline,
        _first_place,
        _noise,
        _edges,
        _end,
        _pruner,
        _limits,
        _dead_fields,
    )
    return [asdict(finding) for check in checks for finding in check(document)]


def _complete(document: Document) -> list[Mapping[str, Any]]:
    """Returns the completed trials, the best first."""
    sign = _sign(document)
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    return sorted(complete, key=lambda trial: (-sign * trial["value"], trial["number"]))


def _good(document: Document) -> list[Mapping[str, Any]]:
    complete = _complete(document)
    return complete[: max(3, round(_TOP * len(complete)))] if len(complete) >= _ENOUGH else []


def _sign(document: Document) -> int:
    return 1 if document["direction"] == "maximize" else -1


def _has_question(document: Document) -> bool:
    return document.get("question") is not None


def _yaml(tree: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(tree), sort_keys=False, default_flow_style=None).strip()


def _baseline(document: Document) -> Iterator[Finding]:
    """Was the recipe's own setting beaten, and at what cost?"""
    own = document["baseline"]
    if own is None or own["mean"] is None or own["difference"] is None or own["difference_ci95"] is None:
        return
    low, high = sorted(_sign(document) * end for end in own["difference_ci95"])
    if high <= 0 or (low <= 0 and _sign(document) * own["difference"] <= 0):
        epochs = sum(len(trial["curve"]) for trial in document["trials"])
        text = f"After {len(document['trials'])} trials and {epochs} epochs the recipe's own settings were not beaten"
        yield Finding(f"{text}: keep them, or search other fields.", "space", _yaml({"space": {}}))


def _first_place(document: Document) -> Iterator[Finding]:
    """Could some more seeds tell first and second place apart? If it takes very many, they are as good as equal."""
    second = document["runner_up"]
    if second is None or second["distinguishable"] or second["ci95"] is None:
        return
    seeds = len(document["finalists"][0]["values"])
    low, high = second["ci95"]
    needed = seeds * ((high - low) / 2 / max(abs(second["difference"]), 1e-12)) ** 2
    if needed <= _MOST_SEEDS:
        first = describe(document["finalists"][0]["params"])
        text = f"First and second place cannot be told apart over {seeds} seeds ({first} leads)"
        text = f"{text}: some {math.ceil(needed)} seeds may."
        yield Finding(text, "finalists.seeds", _yaml({"finalists": {"seeds": math.ceil(needed)}}))


def _noise(document: Document) -> Iterator[Finding]:
    """Do trials differ by more than seeds do?"""
    spreads = [np.std(row["values"], ddof=1) for row in document["finalists"] if _has_spread(row)]
    good = [trial["value"] for trial in _good(document)]
    if not spreads or len(good) < 3:
        return
    noise, spread = float(np.sqrt(np.mean(np.square(spreads)))), float(np.std(good, ddof=1))
    half = [trial["value"] for trial in _complete(document)[: max(3, len(_complete(document)) // 2)]]
    if noise > np.ptp(half):
        text = (
            f"Seeds alone move {document['metric']} by {noise:.4f} (standard deviation): more than the better half of"
            f" the trials differ ({spread:.4f} among the best). Their order is luck."
        )
        more = {"seeds": 10} if _has_question(document) else {"top": min(10, len(half)), "seeds": 10}
        yield Finding(text, "finalists", _yaml({"finalists": more}))


def _has_spread(row: Mapping[str, Any]) -> bool:
    return len(row["values"]) > 1 and None not in row["values"]


def _edges(document: Document) -> Iterator[Finding]:
    """Do the good trials lie at the edge of the space?"""
    good = _good(document)
    for field in document["space"]:
        values = [trial["params"][field["path"]] for trial in good if field["path"] in trial["params"]]
        if "choices" in field or len(values) < max(3, len(good) / 2):
            continue
        shares = [_share(field, value) for value in values]
        best, middle = shares[0], float(np.median(shares))
        is_low = best <= _EDGE and middle <= 2 * _EDGE
        if not is_low and not (best >= 1 - _EDGE and middle >= 1 - 2 * _EDGE):
            continue
        end = "lower" if is_low else "upper"
        text = (
            f"The best trials lie at the {end} edge of {field['path']} ({values[0]:.4g}): better ones may lie beyond."
        )
        yield Finding(text, field["path"], _yaml({"space": {field["path"]: _wider(field, is_low)}}))


def _share(field: Mapping[str, Any], value: float) -> float:
    low, high, value = (math.log(n) if field["log"] else n for n in (field["low"], field["high"], value))
    return (value - low) / (high - low)


def _wider(field: Mapping[str, Any], is_low: bool) -> dict[str, Any]:
    low, high = field["low"], field["high"]
    if field["log"]:
        low, high = (low / 10, high) if is_low else (low, high * 10)
    else:
        reach = (high - low) / 2
        low, high = (low - reach, high) if is_low else (low, high + reach)
    whole = isinstance(field["low"], int) and isinstance(field["high"], int)
    low, high = (round(n) if whole else float(f"{n:.4g}") for n in (low, high))
    return {"low": low, "high": high} | ({"log": True} if field["log"] else {})


def _end(document: Document) -> Iterator[Finding]:
    """Did the search end while it was still improving by more than seeds differ?"""
    trials = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    if len(trials) < _ENOUGH or _has_question(document):  # whose answer says whether it depends on the budget
        return
    sign = _sign(document)
    cut = math.ceil((1 - _LATE) * len(trials))
    early, late = (max(sign * trial["value"] for trial in part) for part in (trials[:cut], trials[cut:]))
    spreads = [np.std(row["values"], ddof=1) for row in document["finalists"] if _has_spread(row)]
    noise = float(np.sqrt(np.mean(np.square(spreads)))) if spreads else 0.0
    if late > early + 2 * noise and spreads:
        text = (
            f"The search was still improving when it ended: the last {len(trials) - cut} trials raised the best by"
            f" {late - early:.4f}, more than seeds differ ({noise:.4f})."
        )
        yield Finding(text, "budget.trials", _yaml({"budget": {"trials": 2 * len(document["trials"])}}))


def _pruner(document: Document) -> Iterator[Finding]:
    """Does the pruner stop trials that start slowly and end well?"""
    pruned = [trial for trial in document["trials"] if trial["outcome"] == "pruned" and not _broken_limit(trial)]
    pruned = [trial for trial in pruned if trial["curve"]]
    good = _good(document)
    if len(pruned) < _OFTEN * len(document["trials"]) or not good:
        return
    epoch = int(np.median([trial["curve"][-1][0] for trial in pruned]))
    reached = {trial["number"]: dict(map(tuple, trial["curve"])) for trial in document["trials"]}
    sign = _sign(document)
    then = {number: sign * curve[epoch] for number, curve in reached.items() if epoch in curve}
    ranks = [
        np.mean([then[trial["number"]] > value for value in then.values()]) for trial in good if trial["number"] in then
    ]
    if len(ranks) >= 3 and np.median(ranks) < 0.5:
        text = (
            f"{len(pruned)} trials were pruned, half of them by epoch {epoch}. But at that epoch the trials that ended"
            " best were behind most others: the pruner may have stopped others that start slowly."
        )
        warmup = min(3 * epoch, max(point[0] for trial in good for point in trial["curve"]))
        yield Finding(text, "pruner.warmup_epochs", _yaml({"pruner": {"warmup_epochs": warmup}}))


def _broken_limit(trial: Mapping[str, Any]) -> str:
    """Returns the field of the limit that the trial broke; empty if it broke none."""
    return broken_limit(trial["error"]) if trial["outcome"] == "pruned" else ""


def _limits(document: Document) -> Iterator[Finding]:
    """Do limits stop trials that were ahead?"""
    stopped = [trial for trial in document["trials"] if _broken_limit(trial)]
    sign = _sign(document)
    complete = _complete(document)
    for field in dict.fromkeys(map(_broken_limit, stopped)):
        those = [trial for trial in stopped if _broken_limit(trial) == field]
        ahead = []
        for trial in those:
            if trial["curve"]:
                epoch, value = trial["curve"][-1]
                others = [sign * point for each in complete for at, point in each["curve"] if at == epoch]
                ahead += [trial] if others and sign * value > max(others) else []
        untrained = [trial for trial in those if not trial["curve"]]
        if ahead:
            text = f"{field} stopped {len(those)} trials, {len(ahead)} of them ahead of every other at that epoch."
        elif len(untrained) >= _OFTEN * len(document["trials"]):
            kept = f"{field} kept {len(untrained)} of {len(document['trials'])} trials from training"
            text = f"{kept}: nothing is known of them."
        else:
            continue
        yield Finding(text, field, _yaml({"constraints": {field.partition(".")[2]: None}}))


def _dead_fields(document: Document) -> Iterator[Finding]:
    """Which fields made no difference?"""
    for row in document["importance"]["fields"]:
        if row["ci95"][1] < _NEGLIGIBLE:
            best = next((trial["params"].get(row["path"]) for trial in _complete(document)), None)
            text = f"{row['path']} made no difference: at most {row['ci95'][1]:.0%} of the variation between trials."
            yield Finding(text, row["path"], _yaml({"overrides": {row["path"]: best}}))
