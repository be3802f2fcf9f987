"""The report that a sweep leaves: pictures and a page, whatever its trials were."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from matplotlib.image import imread
from optuna.trial import TrialState

from experiments import Store
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.report import plots
from sweeps.report.leaderboard import description, headline
from sweeps.report.page import page
from sweeps.report.result import SweepResult
from sweeps.study.stage import settle

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

CONDITIONAL = """
space:
  optimizer.kind: [sgd, adamw]
  optimizer.lr: {low: 0.001, high: 0.1, log: true}
  optimizer.momentum: {low: 0.0, high: 0.9, when: {optimizer.kind: sgd}}
  optimizer.weight_decay: {low: 0.0, high: 0.1, when: {optimizer.kind: adamw}}
"""
TITLES = ["History", "Parameter importance", "Parallel coordinates", "Slices", "Learning curves", "Finalists"]


class _Page(HTMLParser):
    """The addresses that a page loads from, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    """A sweep on digits with two finalists, the baseline beside them: its result, and the sweep's artifacts."""
    folder = tmp_path_factory.mktemp("reported")
    overrides = {"budget.trials": 8, "trainer.max_epochs": 4, "pruner.startup_trials": 2}
    overrides |= {"finalists.top": 2, "finalists.seeds": 2, "finalists.baseline": True}
    store = Store.open(folder)
    result = run_sweep(load_sweep("digits", overrides), store=store)
    return result, Path(store.client.get_run(result.sweep_run_id).info.artifact_uri.removeprefix("file://"))


def test_the_page_needs_nothing_from_elsewhere_and_holds_leaderboard_and_pictures(
    reported: tuple[SweepResult, Path],
) -> None:
    result, artifacts = reported
    html = (artifacts / "report.html").read_text()
    shown = _Page(html)
    assert re.findall("<h2>(.*?)</h2>", html) == ["Finalists", *TITLES, "Trials"]
    assert len(shown.addresses) == len(TITLES)
    assert all(address.startswith("data:image/png;base64,") for address in shown.addresses)
    assert "http" not in shown.text
    for trial in result.trials:
        assert trial["run_id"] in shown.text
    assert headline(result.as_dict()) in shown.text
    for title in TITLES:
        picture = imread(artifacts / "plots" / f"{title.lower().replace(' ', '_')}.png")
        assert picture.std() > 0.05


def test_a_result_is_shown_by_a_notebook_and_becomes_a_table(reported: tuple[SweepResult, Path]) -> None:
    result, _ = reported
    html = result._repr_html_()
    shown = _Page(html)
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


def draw(untrained: "Untrained", outcomes: list[tuple[str, float | None]]) -> tuple[dict[str, Path], str]:
    """Pictures and page of a sweep over CONDITIONAL whose trials ended so, each after two epochs."""
    search = untrained.search(untrained.sweep(CONDITIONAL, **{"budget.trials": len(outcomes)}))
    for outcome, value in outcomes:
        taken = search.claim()
        assert taken is not None
        for epoch in (1, 2) if outcome != "failed" else ():
            taken.trial.report(0.5 + 0.1 * epoch, step=epoch)
        settle(search.study, taken.trial, outcome, value=value)  # type: ignore[arg-type]
    document: dict[str, Any] = {"sweep": "<b>mine</b>", "metric": "val/accuracy", "direction": "maximize"}
    document |= {"finalists": [], "champion": None, "baseline": None, "runner_up": None, "luck": None, "trials": []}
    for trial in search.trials():
        state, outcome = trial.state.name, trial.user_attrs["outcome"]
        row = {"number": trial.number, "state": state, "outcome": outcome, "value": trial.value}
        document["trials"].append(row | {"params": trial.params, "seed": 0, "run_id": None})
    pictures = plots.draw(search.study, document, untrained.store.folder / "plots")
    return pictures, page(document, pictures)


@pytest.mark.parametrize(
    ("outcomes", "titles"),
    [
        ([], []),
        ([("failed", None)] * 3, []),
        ([("pruned", None)] * 2, ["Learning curves"]),
        ([("finished", 0.7)], ["Learning curves"]),
        ([("finished", 0.7)] * 3, ["Learning curves"]),  # no value differs: nothing has any importance
        (
            [("finished", 0.7), ("failed", None), ("pruned", None), *[("finished", 0.1 * n) for n in range(5)]],
            TITLES[:-1],
        ),
    ],
)
def test_a_sweep_of_any_trials_has_a_report(
    untrained: "Untrained", outcomes: list[tuple[str, float | None]], titles: list[str]
) -> None:
    if not outcomes:  # a budget has at least one trial
        outcomes = [("failed", None)]
    pictures, html = draw(untrained, outcomes)
    assert list(pictures) == titles
    assert all(path.stat().st_size > 5_000 for path in pictures.values())
    assert "<b>" not in html  # what a user wrote is shown as text
    assert "No trial completed" in html


def test_conditional_parameters_leave_a_trial_its_parallel_coordinates(untrained: "Untrained") -> None:
    pictures, _ = draw(untrained, [("finished", 0.1 * n) for n in range(1, 9)])
    search = untrained.search(untrained.sweep(CONDITIONAL, **{"budget.trials": 8}))
    kinds = {trial.params["optimizer.kind"] for trial in search.trials() if trial.state == TrialState.COMPLETE}
    assert kinds == {"sgd", "adamw"}  # so no trial has all parameters, and they share but two
    assert imread(pictures["Parallel coordinates"]).std() > 0.05


def test_choices_are_no_formulas_and_no_markup(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    choices = [r"$\frac{$", "<script>|$x$"]
    for number in range(6):
        trial = study.ask()
        trial.suggest_categorical("model.network_args.act", choices)
        study.tell(trial, 0.1 * number)
    rows = [
        {"number": each.number, "state": each.state.name, "outcome": "finished", "value": each.value}
        | {"params": each.params, "seed": 0, "run_id": None}
        for each in study.trials
    ]
    finalist = {"number": 5, "params": {"act": choices[0]}, "values": [0.5], "mean": 0.5, "ci95": None}
    document: dict[str, Any] = {"sweep": "\x1b[31m<b>", "metric": "val/accuracy", "direction": "maximize"}
    document |= {"finalists": [finalist], "champion": None, "baseline": None, "runner_up": None, "luck": None}
    document |= {"trials": rows, "trials_url": "http://x/#y", "finalists_url": "http://x/#z"}
    pictures = plots.draw(study, document, tmp_path / "plots")
    html = page(document, pictures)
    shown = _Page(html)  # which fails on a script
    assert "act=<script>|$x$" in shown.text
    assert "\\x1b[31m<b>" in shown.text
    assert r"act=&lt;script&gt;\|$x$ |" in description(document)
    assert {*pictures} >= {"Parallel coordinates", "Slices", "Finalists"}
