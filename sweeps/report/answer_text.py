"""The answer to a sweep's question in plain words, from its JSON document. It says only what the intervals allow."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from experiments.estimates.power import MOST_SEEDS, detectable_difference
from lightning_modules.metrics import bounds_of, find_metric

Document = Mapping[str, Any]

Unit = Literal["seed", "repeat"]

COVERS: dict[Unit, str] = {
    "seed": "Each interval covers what the tuned configuration of an arm would reach with other seeds. It does not "
    "cover a repetition of the tuning, which could find another configuration.",
    "repeat": "Each value is the mean over the fresh seeds of one repeat of the tuning. Each interval covers what an "
    "arm would reach if it were tuned again with other seeds.",
}
_SPLITS = {"val": "validation", "test": "test"}
_NAMED = 3  # arms or pairs in one sentence
_MOST_DIGITS = 12


def sentences(document: Document, sign: int) -> list[str]:
    """Returns the answer, the most important sentence first. `sign`: 1 if higher scores are better, else -1."""
    return [*_verdict(document), *_uncompared(document), *_unequal(document), *_depends(document, sign)]


def budget_sentence(document: Document, sign: int) -> str:
    """Says whether the answer depends on the number of trials; empty if fewer than two arms can be compared."""
    compared = _compared(document)
    if len(compared) < 2:
        return ""
    first = compared[0]["value"]
    depends = list(_depends(document, sign))
    others = [arm["value"] for arm in compared[1:]]
    ahead = [f"In the search, {each}." for each in _turned(document, sign, others, to_the_end=True)]
    none = f"At no number of trials is the range of another arm wholly ahead of that of {first}."
    return [*depends, *ahead, none][0]


def pair_verdict(pair: Mapping[str, Any]) -> str:
    """Returns the verdict on a pair of arms in a few words."""
    return f"{pair['between'][0]} is better" if pair["distinguishable"] else "cannot be told apart"


def can_show(metric: str, spread: float, seeds: int, arms: int) -> str:
    """Says which difference the seeds of a question can show. `spread`: the standard deviation of a paired difference.

    Empty if the spread is 0, which says only that it is not known.
    """
    if seeds < 2:
        return "One seed cannot show any difference between arms."
    if spread <= 0:
        return ""
    difference = amount(metric, detectable_difference(spread, seeds, arms))
    return f"{seeds} seeds can show a true difference of {difference} or more (in 80 of 100 such questions)."


def amount(metric: str, *values: float) -> str:
    """Returns the sizes of one difference, or of an interval's ends: `0.4 to 0.9 points of validation accuracy`."""
    return f"{_numbers(metric, *values)} {_unit(metric)}"


def _numbers(metric: str, *values: float) -> str:
    """Returns the sizes alone, with as many digits as tell them apart from each other and from 0."""
    ends = sorted((100 if _is_share(metric) else 1) * abs(value) for value in values)
    width = ends[-1] - ends[0] or ends[-1] or 1.0
    digits = max(1, math.ceil(-math.log10(width)) + (not _is_share(metric)))
    while digits < _MOST_DIGITS and any(end > 0 and float(f"{end:.{digits}f}") == 0 for end in ends):
        digits += 1
    return " to ".join(f"{end:.{digits}f}" for end in ends)


def _unit(metric: str) -> str:
    return f"{'points of' if _is_share(metric) else 'of'} {name_of(metric)}"


def _is_share(metric: str) -> bool:
    return bounds_of(metric) == (0, 1)


def name_of(metric: str) -> str:
    """Returns a metric in words: `validation accuracy`; one that is not known by its logged name."""
    known = find_metric(metric)
    return metric if known is None else f"{_SPLITS.get(metric.partition('/')[0], 'train')} {known.title}"


def _compared(document: Document) -> list[Mapping[str, Any]]:
    """Returns the arms that have a score for every seed, the best first."""
    return [arm for arm in document["arms"] if arm["mean"] is not None]


def _verdict(document: Document) -> Iterator[str]:
    compared, pairs = _compared(document), document["pairs"]
    names = [arm["value"] for arm in compared]
    if len(compared) < 2:
        alone = f"only {names[0]} has" if names else "no arm has"
        yield f"The question has no answer: {alone} a score for every {document['unit']}."
        return
    first = names[0]
    of_first = _of_best(document)
    beaten = [pair for pair in of_first if pair["distinguishable"]]
    unclear = [pair for pair in of_first if not pair["distinguishable"]]
    others = [pair for pair in pairs if pair["between"][0] != first and pair["distinguishable"]]
    if beaten:
        yield f"{_tuned(document)}{first} is better than {_ranges(document, beaten)}."
    if unclear:
        yield _undecided(document, first, unclear, is_all=not beaten and not others)
    if others and not beaten:
        told = [f"{pair['between'][0]} is better than {_ranges(document, [pair])}" for pair in others[:_NAMED]]
        more = "" if len(others) <= _NAMED else f"; {len(others) - _NAMED} more pairs can be told apart"
        yield f"{_tuned(document)}{'; '.join(told)}{more}."


def _tuned(document: Document) -> str:
    return "As tuned here, " if document["unit"] == "seed" else ""


def _ranges(document: Document, pairs: Sequence[Mapping[str, Any]]) -> str:
    """Returns the second arm of each pair, and by how much the first is better; of many, only of the closest."""
    metric = document["metric"]
    ranges = [f"{pair['between'][1]} by {_numbers(metric, *pair['ci95'])}" for pair in pairs]
    if len(pairs) > _NAMED:
        return f"{len(pairs)} others, of which the closest is {ranges[0]} {_unit(metric)}"
    return f"{_listed(ranges)} {_unit(metric)}"


def _undecided(document: Document, first: str, pairs: Sequence[Mapping[str, Any]], *, is_all: bool) -> str:
    """Says that an arm cannot be told apart from others, and what it would take for the easiest of the pairs.

    `is_all`: whether no two of all arms can be told apart.
    """
    others = [pair["between"][1] for pair in pairs]
    among, number, unit = _listed([first, *others]), len(pairs[0]["differences"]), document["unit"]
    if number == 1:
        field = {"seed": "finalists.seeds", "repeat": "question.repeats"}[unit]
        return f"One {unit} cannot tell {among} apart, since it shows no spread: set {field} to 5 or more."
    if not any(difference for pair in pairs for difference in pair["differences"]):
        return f"{among} have the same score with each of {number} {unit}s."
    known = [pair for pair in pairs if pair["ci95"] is not None]
    if not known:
        return f"{among} differ by the same amount with each of {number} {unit}s: too few to show how much they vary."
    apart = f"{among} apart" if is_all else f"{first}, which has the best mean, from {_listed(others, 'or')}"
    found = f"{_effort(document)} and {number} {unit}s cannot tell {apart}"
    needed = [pair for pair in known if pair["seeds_needed"] is not None]
    if not needed:
        what = "a difference as small as the one" if len(pairs) == 1 else "differences as small as those"
        return f"{found}: {what} seen here {'takes' if len(pairs) == 1 else 'take'} more than {MOST_SEEDS:,} {unit}s."
    easiest = min(needed, key=lambda pair: pair["seeds_needed"])
    which = "" if len(pairs) == 1 else f" for {_listed(easiest['between'])}"
    seen = amount(document["metric"], easiest["difference"])
    return f"{found}; about {easiest['seeds_needed']} {unit}s would{which}, if the difference is {seen}, as seen here."


def _effort(document: Document) -> str:
    """Returns the number of trials of a search of each compared arm: `30 trials an arm`, `28 to 30 trials an arm`."""
    counts = sorted({arm["trials"] // document["repeats"] for arm in _compared(document)})
    shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{shown} {'trial' if counts == [1] else 'trials'} an arm"


def _uncompared(document: Document) -> Iterator[str]:
    for arm in document["arms"]:
        if arm["mean"] is None and arm["values"]:
            failed, number = arm["values"].count(None), len(arm["values"])
            counted = f"{failed} of {number} {document['unit']}{'' if number == 1 else 's'}"
            reason = f"its best configuration has no score with {counted}"
            yield f"{arm['value']} is not compared: {reason}."
        elif arm["mean"] is None:
            reason = f"none of its {arm['trials']} trials completed" if arm["trials"] else "it has no trial"
            yield f"{arm['value']} is not compared: {reason}."


def _unequal(document: Document) -> Iterator[str]:
    if len({arm["trials"] for arm in document["arms"]}) > 1:
        counts = _listed([f"{arm['value']} {arm['trials']}" for arm in document["arms"]])
        yield f"The arms did not get the same number of trials: {counts}."


def _depends(document: Document, sign: int) -> Iterator[str]:
    """Says up to how many trials an arm that the best one beats was ahead of it in the search, if not to the end."""
    beaten = [pair["between"][1] for pair in _of_best(document) if pair["distinguishable"]]
    for turned in _turned(document, sign, beaten, to_the_end=False):
        yield f"It depends on the budget: in the search, {turned}."


def _turned(document: Document, sign: int, names: Sequence[str], *, to_the_end: bool) -> Iterator[str]:
    """Says which of the named arms was longest ahead of the best one, with its whole range, and when.

    `to_the_end`: also an arm that still was with the most trials. Then search and fresh seeds disagree, and more trials
    would not have changed it.
    """
    first = _compared(document)[0] if names else {}
    arms = [arm for arm in _compared(document) if arm["value"] in names]
    ahead = {arm["value"]: stretch for arm in arms if (stretch := _ahead(arm, first, sign, to_the_end=to_the_end))}
    if ahead:
        arm, (least, last) = max(ahead.items(), key=lambda item: item[1][-1])
        so_few = f"{last} {'trial' if last == 1 else 'trials'}" if least == last else f"{least} to {last} trials"
        yield f"with {so_few} an arm, {arm} is ahead of {first['value']}"


def _of_best(document: Document) -> list[Mapping[str, Any]]:
    """Returns the pairs of the arm with the best mean."""
    compared = _compared(document)
    return [pair for pair in document["pairs"] if pair["between"][0] == compared[0]["value"]] if compared else []


def _ahead(one: Mapping[str, Any], other: Mapping[str, Any], sign: int, *, to_the_end: bool) -> tuple[int, int] | None:
    """Returns the last stretch of numbers of trials with which one arm's range is wholly better than the other's.

    `to_the_end`: also one that ends with the most trials.
    """
    theirs = {point["trials"]: point["range95"] for point in other["expected_best"]}
    ours = {point["trials"]: point["range95"] for point in one["expected_best"] if point["trials"] in theirs}
    stretches = [
        list(stretch)
        for is_ahead, stretch in groupby(ours, lambda trials: _is_ahead(ours[trials], theirs[trials], sign))
        if is_ahead
    ]
    if not stretches or (stretches[-1][-1] == max(ours) and not to_the_end):
        return None
    return stretches[-1][0], stretches[-1][-1]


def _is_ahead(one: Sequence[float], other: Sequence[float], sign: int) -> bool:
    return one[0] > other[1] if sign > 0 else one[1] < other[0]


def _listed(names: Sequence[str], word: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
