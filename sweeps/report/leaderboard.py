"""A sweep's report in words and in order, for the terminal, MLflow's description and the HTML page.

What is called ahead, behind or better was seen over several seeds, and its difference has an interval that excludes 0.
"""

from collections.abc import Mapping
from typing import Any, Literal

from experiments.comparison.statistics import Estimate
from lightning_modules.metrics import METRICS, find_metric, sign_of
from sweeps.strategy.space import describe

_OWN = "the recipe's own settings"


def ranked(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trials of the leaderboard: completed ones by value, then the rest in order."""
    sign = -sign_of(document["metric"])
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    others = [trial for trial in document["trials"] if trial["state"] != "COMPLETE"]
    return sorted(complete, key=lambda trial: (sign * trial["value"], trial["number"])) + others


def as_text(score: Mapping[str, Any]) -> str:
    """`0.9812`, or `0.9812 [0.9790, 0.9834]` where there is an interval; with more digits where its ends need them."""
    if score["mean"] is None:
        return "diverged"
    if score["ci95"] is None:
        return f"{score['mean']:z.4f}"
    low, high = score["ci95"]
    digits = next((digits for digits in range(4, 12) if f"{low:.{digits}f}" != f"{high:.{digits}f}"), 12)
    return f"{score['mean']:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"


def headline(document: Mapping[str, Any]) -> str:
    """What the sweep found, in one sentence: the first line wherever a leaderboard is shown."""
    champion, finalists, baseline = document["champion"], document["finalists"], document["baseline"]
    if champion is None:
        return (
            "There is no champion: no finalist gave a score with every seed."
            if finalists
            else "No trial completed: there is no champion."
        )
    is_own = champion["number"] is None
    row = baseline if is_own else finalists[0]
    is_one = len(row["values"]) == 1
    seeds = "with one fresh seed" if is_one else f"over {len(row['values'])} fresh seeds"
    scores = f"{document['metric']} {as_text(row)}, {on_test(document)}"
    if is_own:
        has_rival = finalists[0]["mean"] is not None
        reason = f"no trial did better {seeds}" if has_rival else "no finalist gave a score with every seed"
        found = f"{'Best' if is_one else 'Champion'}: {_OWN}: {reason}; {scores}"
    else:
        title, lead = ("Best trial", f"the best score {seeds}") if is_one else ("Champion", _lead(document, seeds))
        found = f"{title}: trial {row['number']}, {describe(row['params'])}: {lead}; {scores}"
    return f"{found}; one seed is too few seeds to tell." if is_one else f"{found}."


def _lead(document: Mapping[str, Any], seeds: str) -> str:
    """How the first finalist, whose mean is the best, stands against the recipe's own settings."""
    baseline, best = document["baseline"], f"the best mean {seeds}"
    if baseline is None:
        return f"{best} ({_OWN} did not run)"
    if baseline["mean"] is None:
        return f"{best} ({_OWN} gave no score with every seed)"
    standing = _standing(document, baseline["difference"], baseline["difference_ci95"])
    return f"better than {_OWN} {seeds}" if standing == "ahead" else f"{best}, but it {_VERDICTS[standing]} {_OWN}"


def on_test(document: Mapping[str, Any]) -> str:
    """The champion's accuracy on test, and the metric that was searched for, where that is another."""
    searched = find_metric(document["metric"])
    shown = dict.fromkeys(metric for metric in (METRICS["accuracy"], searched) if metric is not None)
    scores = {metric.title: document["champion"][f"test_{metric.name}"] for metric in shown}
    return ", ".join(f"test {title} {as_text(score)}" for title, score in scores.items() if score is not None)


def doubts(document: Mapping[str, Any]) -> list[str]:
    """What a reader should know before believing in the champion, one sentence each."""
    said = []
    if (own := document["baseline"]) is not None:
        reached = f"The recipe's own settings reach {as_text(own)} over the same seeds"
        if own["mean"] is None:
            reached = "The recipe's own settings gave no score with every seed"
        compared = _compared(document, "them", own["difference"], own["difference_ci95"])
        said.append(f"{reached}; {compared}." if compared else f"{reached}.")
    if (second := document["runner_up"]) is not None:
        against = f"the second finalist, trial {second['number']}"
        compared = _compared(document, against, second["difference"], second["ci95"])
        said.append(f"{compared[0].upper()}{compared[1:]}.")
    if (luck := document["luck"]) is not None:
        told = f"{luck['value']:.4f} in the search, {luck['mean']:.4f} over fresh seeds"
        verdict = f"{luck['luck']:.4f} of it was luck" if luck["luck"] >= 0.00005 else "it was no luck"
        said.append(f"Trial {luck['number']}, the best of the search, had {told}: {verdict}.")
    return said


_Standing = Literal["ahead", "behind", "alike", "unknown"]
_VERDICTS: dict[_Standing, str] = {
    "ahead": "is ahead of",
    "behind": "is behind",
    "alike": "is not distinguishable from",
    "unknown": "ran over too few seeds to tell it from",
}


def _standing(document: Mapping[str, Any], difference: float, ci95: tuple[float, float] | None) -> _Standing:
    """Of a configuration whose score minus another's is `difference`, with its interval."""
    if ci95 is None:
        return "unknown"
    if not Estimate(difference, ci95).is_clear_of_zero:
        return "alike"
    return "ahead" if sign_of(document["metric"]) * difference > 0 else "behind"


def _compared(
    document: Mapping[str, Any], other: str, difference: float | None, ci95: tuple[float, float] | None
) -> str:
    """The first finalist against another, in words; empty where one of them gave no score."""
    if difference is None:
        return ""
    verdict = _VERDICTS[_standing(document, difference, ci95)]
    apart = as_text({"mean": difference, "ci95": ci95})
    return f"trial {document['finalists'][0]['number']} {verdict} {other}: difference {apart}"


def description(document: Mapping[str, Any]) -> str:
    """The sweep's description in MLflow's UI, in Markdown."""
    rows = [
        f"| {trial['number']} | {describe(trial['params'])} | "
        f"{format(trial['value'], '.4f') if trial['outcome'] == 'finished' else trial['outcome']} |"
        for trial in ranked(document)[:10]
    ]
    table = [f"| trial | params | {document['metric']} |", "|---|---|---|", *rows]
    link = f"[All trials and finalists, best first]({document['trials_url'][document['trials_url'].index('#') :]})"
    return "\n".join([f"**{headline(document)}**", *doubts(document), "", link, "", *table])
