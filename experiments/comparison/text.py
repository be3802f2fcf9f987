"""Puts a comparison into words, for the terminal, the page and MLflow's description."""

from collections.abc import Mapping
from typing import Any

from lightning_modules.metrics import sign_of
from lightning_modules.showable import showable

_SHOWN_LINES, _MAX_NUMBER = 4, 10  # lines of code, characters

Document = Mapping[str, Any]


def labels(document: Document) -> dict[str, str]:
    """Returns the label of each run: its name and the start of its id."""
    return {run["run_id"]: f"{showable(run['name'])} ({run['run_id'][:8]})" for run in document["runs"]}


def verdicts(document: Document) -> list[str]:
    """Returns one sentence on the result of each test, those by the objective first."""
    named = labels(document)
    return [
        _verdict(test, [named.get(each, each) for each in test["between"]], is_corrected=len(tests) > 1)
        for tests in (document["tests"], document["other_tests"])
        for test in tests
    ]


def _verdict(test: Mapping[str, Any], between: list[str], *, is_corrected: bool) -> str:
    first, second = between
    verdict = f"{first} and {second} are not distinguishable"
    if test["distinguishable"]:
        is_better = sign_of(test["metric"]) * test["difference"] > 0
        verdict = f"{first} is {'better' if is_better else 'worse'} than {second}"
    low, high = test["ci95"]
    if low == high and "images" not in test:
        return f"{first} and {second}: {test['metric']} differs by {low:.4f} with every seed, too few seeds to tell"
    how = f"{test['name']}, Holm's correction" if is_corrected else test["name"]
    difference = f"{test['metric']} differs by {test['difference']:.4f} [{low:.4f}, {high:.4f}]"
    return f"{verdict}: {difference}, p = {test['p_value']:.2g} ({how})"


def robustness_verdicts(document: Document) -> list[str]:
    """Returns a sentence on which of two is more robust; none if that was not compared."""
    found = document["robustness"]
    if found is None:
        return []
    named, row = labels(document), found["rows"][-1]
    first, second = (named.get(each, each) for each in found["between"])
    verdict = f"{first} and {second} are not distinguishable in robustness"
    if row["distinguishable"]:
        verdict = f"{first} is {'more' if row['difference'] > 0 else 'less'} robust than {second}"
    low, high = row["ci95"]
    differs = f"accuracy on corrupted images differs by {row['difference']:.4f} [{low:.4f}, {high:.4f}]"
    return [f"{verdict}: {differs}, p = {row['p_value']:.2g} ({row['test']}, Holm's correction)"]


def robustness_row(document: Document, row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Returns the corruption, the accuracy of the two, and their difference, each with its interval."""
    cells = []
    for name in document["robustness"]["between"]:
        found = row["values"][name]
        interval = " [{:.3f}, {:.3f}]".format(*found["ci95"]) if found["ci95"] else ""
        cells.append(f"{found['mean']:.3f}{interval}")
    star = " *" if row["distinguishable"] else ""
    difference = "{:+.3f} [{:+.3f}, {:+.3f}]".format(row["difference"], *row["ci95"])
    return row["name"], cells[0], cells[1], difference + star


def field(row: Mapping[str, Any]) -> str:
    """Returns the name of a row of differences, with its kind in front if the name alone is not clear."""
    return str(row["field"]) if row["kind"] in {"param", row["field"]} else f"{row['kind']} {row['field']}"


def cell(row: Mapping[str, Any], run_id: str) -> str:
    """Returns a run's value in a row of differences, shortened: code to its first lines, a digest to its start."""
    value = row["values"].get(run_id)
    if row["kind"] == "code":
        lines = "no such file" if value is None else str(value)
        found = [line.strip() for line in lines.splitlines()]
        return "\n".join(found[:_SHOWN_LINES] + ["…"] * (len(found) > _SHOWN_LINES))
    if value is None:
        return {"package": "not installed", "param": "", "data": "unknown"}.get(row["kind"], "")
    return f"{value[:12]}…" if row["kind"] == "data" else str(value)


def short_cell(row: Mapping[str, Any], run_id: str) -> str:
    """Returns the cell for a table of many runs: long numbers are rounded to four digits."""
    text = cell(row, run_id)
    try:
        return f"{float(text):.4g}" if len(text) > _MAX_NUMBER else text
    except ValueError:
        return text


def score(metric: Mapping[str, Any], run_id: str) -> str:
    """Returns a run's value of a metric, with a star if it is the best."""
    value = metric["values"][run_id]
    if value is None:
        return ""
    return (f"{value:.4f}" if abs(value) < 1000 else f"{value:.0f}") + (" *" if run_id in metric["best"] else "")


def group(found: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Returns a group's name, number of runs, mean, standard deviation and 95 % interval."""
    deviation = "" if found["sd"] is None else f"{found['sd']:.4f}"
    interval = "[{:.4f}, {:.4f}]".format(*found["ci95"]) if found["ci95"] else ""
    return found["name"], str(len(found["run_ids"])), f"{found['mean']:.4f}", deviation, interval


def group_columns(document: Document) -> tuple[str, str, str, str, str]:
    return "group", "runs", f"mean {document['metric']}", "sd", "95 % interval"
