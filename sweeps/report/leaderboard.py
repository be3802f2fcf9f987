"""A sweep's report in words and in order, for the terminal, MLflow's description and the HTML page."""

from collections.abc import Mapping
from typing import Any

from lightning_modules.metrics import sign_of
from sweeps.strategy.space import describe


def ranked(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trials of the leaderboard: completed ones by value, then the rest in order."""
    sign = -sign_of(document["metric"])
    complete = [trial for trial in document["trials"] if trial["state"] == "COMPLETE"]
    others = [trial for trial in document["trials"] if trial["state"] != "COMPLETE"]
    return sorted(complete, key=lambda trial: (sign * trial["value"], trial["number"])) + others


def as_text(score: dict[str, Any]) -> str:
    """`0.9812`, or `0.9812 [0.9790, 0.9834]` where there is an interval."""
    if score["mean"] is None:
        return "diverged"
    interval = score["ci95"]
    return f"{score['mean']:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def headline(document: Mapping[str, Any]) -> str:
    """What the sweep found, in one sentence."""
    champion = document["champion"]
    if champion is None:
        return (
            "There is no champion: no finalist gave a score with every seed."
            if document["finalists"]
            else ("No trial completed: there is no champion.")
        )
    first = document["finalists"][0]
    return (
        f"Champion: trial {first['number']}, {describe(first['params'])}; {document['metric']} {as_text(first)} over "
        f"{len(first['values'])} fresh seed(s), {on_test(document)}."
    )


def on_test(document: Mapping[str, Any]) -> str:
    """The champion's accuracy on test, and its macro-F1 if that was searched for."""
    champion = document["champion"]
    accuracy = f"test accuracy {as_text(champion['test_accuracy'])}"
    is_by_f1 = document["metric"] == "val/macro_f1"
    return f"{accuracy}, test macro-F1 {as_text(champion['test_macro_f1'])}" if is_by_f1 else accuracy


def doubts(document: Mapping[str, Any]) -> list[str]:
    """What a reader should know before believing in the champion, one sentence each."""
    said = []
    if (second := document["runner_up"]) is not None:
        apart = as_text({"mean": second["difference"], "ci95": second["ci95"]})
        verdict = "is behind" if second["distinguishable"] else "is not distinguishable from the champion"
        said.append(f"The second finalist, trial {second['number']}, {verdict}: difference {apart}.")
    if document["baseline"] is not None:
        said.append(_against_baseline(document))
    if (luck := document["luck"]) is not None:
        told = f"{luck['value']:.4f} in the search, {luck['mean']:.4f} over fresh seeds"
        verdict = f"{luck['luck']:.4f} of it was luck" if luck["luck"] > 0 else "it was no luck"
        said.append(f"Trial {luck['number']}, the best of the search, had {told}: {verdict}.")
    return said


def _against_baseline(document: Mapping[str, Any]) -> str:
    baseline = document["baseline"]
    own = f"The recipe's own settings reach {as_text(baseline)} over the same seeds"
    if (ahead := baseline["champion_ahead"]) is None:
        return f"{own}."
    apart = as_text({"mean": ahead["difference"], "ci95": ahead["ci95"]})
    if not ahead["distinguishable"]:
        return f"{own}; the champion is not distinguishable from them: difference {apart}."
    is_ahead = sign_of(document["metric"]) * ahead["difference"] > 0
    return f"{own}; the champion is {'ahead of' if is_ahead else 'behind'} them: difference {apart}."


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
