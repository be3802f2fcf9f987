"""The report that a sweep leaves, whatever its trials were."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from experiments import Store
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.report.importance import importance
from sweeps.report.leaderboard import description, headline, verdict
from sweeps.report.page import page
from sweeps.report.result import SweepResult
from sweeps.report.rows import trial_row
from sweeps.study.stage import settle
from tests.svg import read_page

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

CONDITIONAL = """
space:
  optimizer.kind: [sgd, adamw]
  optimizer.lr: {low: 0.001, high: 0.1, log: true}
  optimizer.momentum: {low: 0.0, high: 0.9, when: {optimizer.kind: sgd}}
  optimizer.weight_decay: {low: 0.0, high: 0.1, when: {optimizer.kind: adamw}}
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    """A sweep on digits with two finalists, the baseline beside them: its result, and the sweep's artifacts."""
    folder = tmp_path_factory.mktemp("reported")
    overrides = {"budget.trials": 8, "trainer.max_epochs": 4, "pruner.startup_trials": 2}
    overrides |= {"finalists.top": 2, "finalists.seeds": 2, "finalists.baseline": True}
    store = Store.open(folder)
    result = run_sweep(load_sweep("digits", overrides), store=store)
    return result, Path(store.client.get_run(result.sweep_run_id).info.artifact_uri.removeprefix("file://"))


def test_the_page_of_a_real_sweep_needs_nothing_from_elsewhere(reported: tuple[SweepResult, Path]) -> None:
    result, artifacts = reported
    shown = read_page((artifacts / "report.html").read_text())
    assert shown.addresses == []
    assert {"Finalists over fresh seeds", "The search", "Fields against val/accuracy", "Trials"} <= set(shown.headings)
    for trial in result.trials:
        assert trial["run_id"][:8] in shown.text
    for sentence in (verdict(result.as_dict()), headline(result.as_dict())):
        assert sentence in shown.text
    assert json.loads((artifacts / "leaderboard.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    assert not (artifacts / "plots").exists()


def test_what_is_known_of_each_trial_is_in_the_result(reported: tuple[SweepResult, Path]) -> None:
    result, _ = reported
    epochs = [len(trial["curve"]) for trial in result.trials]
    assert max(epochs) == 4
    for trial in result.trials:
        assert [epoch for epoch, _ in trial["curve"]] == list(range(1, len(trial["curve"]) + 1))
        assert trial["seconds"] > 0
        assert trial["worker"].startswith("process ")
        if trial["outcome"] == "finished":
            assert trial["value"] == trial["curve"][-1][1]
    for row in result.finalists:
        assert [curve[-1][1] for curve in row["curves"]] == row["values"]
        assert len(row["seconds"]) == 2
    assert result.importance == {"fields": [], "reason": result.importance["reason"]}
    assert "too few" in result.importance["reason"]


def test_a_result_is_shown_by_a_notebook_and_becomes_a_table(reported: tuple[SweepResult, Path]) -> None:
    result, _ = reported
    html = result._repr_html_()
    shown = read_page(html)
    assert headline(result.as_dict()) in shown.text
    assert shown.addresses == [result.trials_url, result.finalists_url, result.dashboard_url]
    assert re.findall("<h2>(.*?)</h2>", html) == ["Finalists", "Trials"]
    table = result.to_pandas()
    assert list(table["value"].dropna()) == [trial["value"] for trial in result.trials if trial["value"] is not None]
    assert list(table["optimizer.lr"]) == [trial["params"]["optimizer.lr"] for trial in result.trials]


def test_the_recipes_own_settings_run_over_the_finalists_seeds(reported: tuple[SweepResult, Path]) -> None:
    result, artifacts = reported
    store = Store.open(artifacts.parents[2])
    assert result.baseline is not None
    runs = [store.client.get_run(run_id).data for run_id in result.baseline["run_ids"]]
    first = result.finalists[0]
    seeds = [store.client.get_run(run_id).data.params["seed"] for run_id in first["run_ids"]]
    assert [run.params["seed"] for run in runs] == seeds
    assert {run.params["optimizer.lr"] for run in runs} == {"0.003"}
    assert [run.metrics["value"] for run in runs] == result.baseline["values"]
    ahead = sum(first["values"]) / 2 - sum(result.baseline["values"]) / 2
    assert result.baseline["difference"] == pytest.approx(ahead)
    assert result.champion is not None
    best = first if ahead > 1e-9 else result.baseline
    assert result.champion["run_ids"] == best["run_ids"]


def page_of(untrained: "Untrained", outcomes: list[tuple[str, float | None]]) -> str:
    """The page of a sweep over CONDITIONAL whose trials ended so, each after two epochs."""
    search = untrained.search(untrained.sweep(CONDITIONAL, **{"budget.trials": len(outcomes)}))
    for outcome, value in outcomes:
        taken = search.claim()
        assert taken is not None
        for epoch in (1, 2) if outcome != "failed" else ():
            taken.trial.report(0.5 + 0.1 * epoch, step=epoch)
        settle(search.study, taken.trial, outcome, value=value)  # type: ignore[arg-type]
    return page(document_of(search.study, [trial_row(trial, None) for trial in search.trials()]))


def document_of(study: optuna.Study, trials: list[dict[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {"sweep": "\x1b[31m<b>mine</b>", "metric": "val/accuracy", "direction": "maximize"}
    document |= {"finalists": [], "champion": None, "baseline": None, "runner_up": None, "luck": None}
    paths = sorted({path for trial in trials for path in trial["params"]})
    space = [{"path": path, **_range_of(path, trials)} for path in paths]
    document |= {"trials": trials, "space": space, "target": len(trials), "importance": importance(study)}
    return document | {"audit": [], "commands": [], "trials_url": "http://x/#y", "finalists_url": "http://x/#z"}


def _range_of(path: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    values = [trial["params"][path] for trial in trials if path in trial["params"]]
    if isinstance(values[0], str):
        return {"choices": sorted(set(values))}
    return {"low": min(values) / 2, "high": 2 * max(values), "log": True}


@pytest.mark.parametrize(
    ("outcomes", "charts"),
    [
        ([("failed", None)] * 3, set()),
        ([("pruned", None)] * 2, {"curves"}),
        ([("finished", 0.7)], {"history", "curves"}),
        ([("finished", 0.7)] * 3, {"history", "curves", "coordinates"}),
        (
            [("finished", 0.7), ("failed", None), ("pruned", None), *[("finished", 0.1 * n) for n in range(5)]],
            {"history", "curves", "coordinates"},
        ),
    ],
)
def test_a_sweep_of_any_trials_has_a_report(
    untrained: "Untrained", outcomes: list[tuple[str, float | None]], charts: set[str]
) -> None:
    html = page_of(untrained, outcomes)
    shown = read_page(html)
    labels = {"history": "Values of", "curves": "The value of", "coordinates": "Parallel coordinates"}
    assert {name for name, label in labels.items() if any(each.startswith(label) for each in shown.charts)} == charts
    assert "<b>mine" not in html  # what a user wrote is shown as text
    assert "\\x1b[31m<b>mine" in shown.text
    assert "No trial completed" in shown.text or ("finished" in dict(outcomes))


def test_choices_are_no_markup(untrained: "Untrained") -> None:
    study = optuna.create_study(direction="maximize")
    choices = [r"$\frac{$", "<script>|$x$"]
    for number in range(6):
        trial = study.ask()
        trial.suggest_categorical("model.network_args.act", choices)
        study.tell(trial, 0.1 * number)
    document = document_of(study, [trial_row(trial, None) for trial in study.trials])
    finalist = {"number": 5, "params": {"act": choices[0]}, "values": [0.5], "mean": 0.5, "ci95": None, "curves": [[]]}
    document |= {"finalists": [finalist]}
    html = page(document)
    shown = read_page(html)
    assert html.count("<script") == 2  # the data and the page's own
    assert "<script>|$x$" in shown.text
    assert r"act=&lt;script&gt;\|$x$ |" in description(document)
