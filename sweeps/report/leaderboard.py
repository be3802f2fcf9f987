"""A sweep's leaderboard: its order and its sentences, for the terminal, MLflow's description and the HTML page.

A configuration is called better, ahead or behind only if the interval of the difference over seeds excludes 0.
"""

from collections.abc import Mapping
from typing import Any, Literal

from experiments.comparison.statistics import Estimate
from experiments.dashboard.links import within
from lightning_modules.metrics import METRICS, bounds_of, of_test, on_test
from lightning_modules.showable import in_markdown
from sweeps.strategy.space import describe
from sweeps.study.finalists import OWN_SETTINGS as _OWN


def ranked(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the trials in the order of the leaderboard: completed ones by value, then all others by number."""
    sign = -_sign(document)
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    others = [trial for trial in document["trials"] if trial["state"] != "COMPLETE"]
    return sorted(complete, key=lambda trial: (sign * trial["value"], trial["number"])) + others


def as_text(score: Mapping[str, Any]) -> str:
    """Formats a mean: `0.9812`, or with its interval `0.9812 [0.9790, 0.9834]`. Adds digits until the ends differ."""
    if score["mean"] is None:
        return "diverged"
    if score["ci95"] is None:
        return f"{score['mean']:z.4f}"
    low, high = score["ci95"]
    digits = next((digits for digits in range(4, 12) if f"{low:.{digits}f}" != f"{high:.{digits}f}"), 12)
    return f"{score['mean']:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"


def headline(document: Mapping[str, Any]) -> str:
    """Returns the sweep's result in one sentence: who is champion, and with what scores."""
    if document.get("so_far") is not None:
        return _so_far(document)
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
    scores = ", ".join(filter(None, [f"{document['metric']} {as_text(row)}", _on_test(document)]))
    if is_own:
        has_rival = finalists[0]["mean"] is not None
        reason = f"no trial did better {seeds}" if has_rival else "no finalist gave a score with every seed"
        found = f"{'Best' if is_one else 'Champion'}: {_OWN}: {reason}; {scores}"
    else:
        title, reason = ("Best trial", f"the best score {seeds}") if is_one else ("Champion", _verdict(document, seeds))
        found = f"{title}: trial {row['number']}, {describe(row['params'])}: {reason}; {scores}"
    return f"{found}; one seed is too few seeds to tell." if is_one else f"{found}."


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Returns all that is said of a result: the answer to its question, if it has one, then the verdict."""
    answer = (document.get("question") or {}).get("sentences", [])
    return list(dict.fromkeys([*answer, verdict(document), headline(document), *doubts(document)]))


def verdict(document: Mapping[str, Any]) -> str:
    """Says in one sentence whether the search was worth it, and whether there is one winner."""
    finalists, own, second = document["finalists"], document["baseline"], document["runner_up"]
    if document["champion"] is None or not finalists:
        return headline(document)
    parts = []
    if own is not None and own["difference"] is not None:
        words = {
            "ahead": f"The search beat {_OWN}",
            "behind": f"The search did worse than {_OWN}",
            "alike": f"The search did not beat {_OWN}",
            "unknown": f"Too few seeds to tell whether the search beat {_OWN}",
        }
        standing = _standing(document, own["difference"], own["difference_ci95"])
        parts.append(f"{words[standing]}: {_points(document, own['difference'], own['difference_ci95'])}")
    if second is not None:
        is_clear = second["distinguishable"]
        parts.append("the first place is clear" if is_clear else "first and second cannot be told apart")
    if not parts:
        return headline(document)
    found = "; ".join(parts)
    return f"{found[0].upper()}{found[1:]}."


def _points(document: Mapping[str, Any], difference: float, ci95: tuple[float, float] | None) -> str:
    """Returns a difference with its interval: of shares in percentage points, with plus where the search is better."""
    is_share = bounds_of(document["metric"]) == (0, 1)
    scale, unit, digits = (100, " points", 1) if is_share else (1, "", 4)
    interval = "" if ci95 is None else " [{:+.{d}f}, {:+.{d}f}]".format(*(scale * end for end in ci95), d=digits)
    return f"{scale * difference:+z.{digits}f}{unit}{interval}"


def _so_far(document: Mapping[str, Any]) -> str:
    """Says how far a sweep is that still runs, and what its best trial is. Names no champion."""
    so_far, best = document["so_far"], document["best"]
    ended = f"{so_far['ended']} of {so_far['target']}" if so_far["target"] else f"{so_far['ended']}"
    if so_far["stage"] == "search":
        done = f"The search goes on: {ended} trials so far"
    else:
        done = f"The search is over, and its best trials run again with fresh seeds: {ended} runs so far"
    if best is None:
        return f"{done}; none has completed."
    score = f"{document['metric']} {best['value']:.4f}"
    return f"{done}; best: trial {best['number']}, {describe(best['params'])}: {score}, which may be luck."


def _verdict(document: Mapping[str, Any], seeds: str) -> str:
    """Says how the first finalist, which has the best mean, compares with the recipe's own settings."""
    baseline, best = document["baseline"], f"the best mean {seeds}"
    if baseline is None:
        return f"{best} ({_OWN} did not run)"
    if baseline["mean"] is None:
        return f"{best} ({_OWN} gave no score with every seed)"
    if baseline["difference"] is None:
        return f"{best} ({_OWN} ran over other seeds)"
    standing = _standing(document, baseline["difference"], baseline["difference_ci95"])
    return f"better than {_OWN} {seeds}" if standing == "ahead" else f"{best}, but it {_VERDICTS[standing]} {_OWN}"


def _on_test(document: Mapping[str, Any]) -> str:
    """Returns the champion's test accuracy, followed by the objective's metric if that is another one."""
    titles = {}
    for name in filter(None, ("accuracy", of_test(on_test(document["metric"]) or ""))):
        titles[name] = METRICS[name].title if name in METRICS else name
    scores = {title: document["champion"].get(f"test_{name}") for name, title in titles.items()}
    return ", ".join(f"test {title} {as_text(score)}" for title, score in scores.items() if score is not None)


def doubts(document: Mapping[str, Any]) -> list[str]:
    """Returns sentences on how far the champion can be trusted: baseline, second finalist, luck."""
    sentences = []
    if (own := document["baseline"]) is not None:
        seeds = "the same" if own["difference"] is not None else len(own["values"])
        reached = f"The recipe's own settings reach {as_text(own)} over {seeds} seeds"
        if own["mean"] is None:
            reached = "The recipe's own settings gave no score with every seed"
        compared = _compared(document, "them", own["difference"], own["difference_ci95"])
        sentences.append(f"{reached}; {compared}." if compared else f"{reached}.")
    if (second := document["runner_up"]) is not None:
        against = f"the second finalist, trial {second['number']}"
        compared = _compared(document, against, second["difference"], second["ci95"])
        sentences.append(f"{compared[0].upper()}{compared[1:]}.")
    if (luck := document["luck"]) is not None:
        scores = f"{luck['value']:.4f} in the search, {luck['mean']:.4f} over fresh seeds"
        verdict = f"{luck['luck']:.4f} of it was luck" if luck["luck"] >= 0.00005 else "it was not luck"
        sentences.append(f"Trial {luck['number']}, the best of the search, had {scores}: {verdict}.")
    return sentences


_Standing = Literal["ahead", "behind", "alike", "unknown"]
_VERDICTS: dict[_Standing, str] = {
    "ahead": "is ahead of",
    "behind": "is behind",
    "alike": "is not distinguishable from",
    "unknown": "ran over too few seeds to tell it from",
}


def _standing(document: Mapping[str, Any], difference: float, ci95: tuple[float, float] | None) -> _Standing:
    """Judges a configuration by its score minus another's (`difference`) and the interval of this difference."""
    if ci95 is None:
        return "unknown"
    if not Estimate(difference, ci95).is_clear_of_zero:
        return "alike"
    return "ahead" if _sign(document) * difference > 0 else "behind"


def _sign(document: Mapping[str, Any]) -> int:
    return 1 if document["direction"] == "maximize" else -1


def _compared(
    document: Mapping[str, Any], other: str, difference: float | None, ci95: tuple[float, float] | None
) -> str:
    """Compares the first finalist with `other` in words; returns an empty text if one of them has no score."""
    if difference is None:
        return ""
    verdict = _VERDICTS[_standing(document, difference, ci95)]
    shown = as_text({"mean": difference, "ci95": ci95})
    return f"trial {document['finalists'][0]['number']} {verdict} {other}: difference {shown}"


def description(document: Mapping[str, Any], settings: Mapping[str, str] = {}) -> str:
    """Returns the sweep's description for MLflow's UI, in Markdown. `settings`: what it searches and how, in words."""
    rows = [
        f"| {trial['number']} | {in_markdown(describe(trial['params']))} | "
        f"{format(trial['value'], '.4f') if trial['outcome'] == 'finished' else trial['outcome']} |"
        for trial in ranked(document)[:10]
    ]
    table = [f"| trial | params | {document['metric']} |", "|---|---|---|", *rows]
    links = [f"[The trials as charts]({within(document['trials_url'])})"]
    if document["finalists"] or (document.get("so_far") or {}).get("stage") == "finalists":
        links.append(f"[The finalists by configuration]({within(document['finalists_url'])})")
    found, *more = map(in_markdown, sentences(document))
    against = [f"- {in_markdown(each['finding'])}" for each in document.get("audit", ())]
    faults = ["", "**What speaks against it:**", "", *against] if against else []
    told = [f"| {in_markdown(name)} | {in_markdown(text)} |" for name, text in settings.items()]
    shown = ["", "| setting | value |", "|---|---|", *told] if told else []
    return "\n".join([f"**{found}**", *more, *faults, "", " · ".join(links), "", *table, *shown])
