"""What a sweep's run in MLflow shows while the sweep runs."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run

from experiments import Store
from experiments.dashboard.views import read_view
from experiments.tracking.lifecycle import create_run, open_run, reopen_run
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.report import live
from sweeps.report.live import Live
from sweeps.study.search import Search
from sweeps.study.stage import settle

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

SPACE = "space: {optimizer.lr: {low: 0.001, high: 0.1, log: true}}\nbudget: {trials: 4}\n"


class Clock:
    """Stands for the monotonic clock: each look at it takes `step` seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
        self.now, self.step = 1000.0, step
        monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=self.look, perf_counter=time.perf_counter))

    def look(self) -> float:
        self.now += self.step
        return self.now


@contextmanager
def begun(search: Search) -> Iterator[Live]:
    """The sweep's run, open, with what it shows from the first minute on."""
    study, store = search.study, search.store
    if "sweep_run_id" not in study.user_attrs:
        run_id = create_run(store, experiment=search.sweep.base.experiment, name=search.sweep.name, kind="sweep")
        study.set_user_attr("sweep_run_id", run_id)
        opened = open_run(store, run_id)
    else:
        opened = reopen_run(store, study.user_attrs["sweep_run_id"])
    with opened as tracked:
        shown = Live(search, tracked)
        shown.begin()
        yield shown


def end_a_trial(search: Search, value: float) -> None:
    taken = search.claim()
    assert taken is not None
    settle(search.study, taken.trial, "finished", value=value)


def reread(search: Search) -> Run:
    return search.store.client.get_run(search.sweep_run_id)


def said(search: Search) -> str:
    """The first line of the run's description."""
    return str(reread(search).data.tags["mlflow.note.content"]).split("\n")[0]


def report(search: Search) -> str:
    return (search.store.files_folder(reread(search).info) / "report.html").read_text()


def test_a_trial_whose_end_is_being_written_still_runs(untrained: "Untrained") -> None:
    """Its outcome comes a moment before its value."""
    search = untrained.search(untrained.sweep(SPACE))
    taken = search.claim()
    assert taken is not None
    taken.trial.set_user_attr("outcome", "finished")
    with begun(search):
        assert said(search) == "**The search goes on: 0 of 4 trials so far; none has completed.**"
        document = json.loads((search.store.files_folder(reread(search).info) / "leaderboard.json").read_text())
        assert [trial["outcome"] for trial in document["trials"]] == ["running"]


def test_description_page_params_and_views_are_there_at_once_and_change_as_trials_end(
    untrained: "Untrained", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, step=0.0)
    search = untrained.search(untrained.sweep(SPACE))
    with begun(search) as shown:
        assert said(search) == "**The search goes on: 0 of 4 trials so far; none has completed.**"
        assert "0 of 4 trials so far" in report(search)
        run = reread(search)
        assert run.data.params["space.optimizer.lr"] == "0.001 to 0.1, log"
        assert run.data.params["begun_with.budget"] == "4 trials"
        tags = search.store.client.get_experiment(run.info.experiment_id).tags
        views = {key.removeprefix(f"mlflow.sharedViewState.{run.info.run_id}"): text for key, text in tags.items()}
        assert {"", "-finalists"} <= views.keys()
        assert read_view(views["-finalists"])["groupBy"]["groupByKeys"][0]["groupByData"] == "workbench.configuration"
        for number, value in enumerate((0.7, 0.8), start=1):
            end_a_trial(search, value)
            clock.now += 3600
            shown.update(search)
            assert f"{number} of 4 trials so far; best: trial {number - 1}" in said(search)
            assert f"val/accuracy {value:.4f}, which may be luck" in said(search)
            assert f"{number} of 4 trials so far" in report(search)
        table = json.loads((search.store.files_folder(run.info) / "leaderboard.json").read_text())
        assert (table["champion"], table["finalists"], len(table["trials"])) == (None, [], 2)
        assert "hampion" not in said(search)


def test_showing_takes_at_most_a_few_percent_of_the_time(
    untrained: "Untrained", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each showing takes 3 s by this clock. Two of them are 3 % of 200 s."""
    clock = Clock(monkeypatch, step=3.0)
    search = untrained.search(untrained.sweep(SPACE))
    with begun(search) as shown:
        began, clock.step = clock.now, 0.0
        end_a_trial(search, 0.7)
        clock.now = began + 180
        shown.update(search)
        assert "0 of 4" in said(search)
        clock.now = began + 200
        shown.update(search)
        assert "1 of 4" in said(search)


def test_what_is_shown_last_is_left_to_the_end_of_the_sweep(
    untrained: "Untrained", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, step=0.0)
    search = untrained.search(untrained.sweep(SPACE, **{"budget.trials": 1}))
    with begun(search) as shown:
        end_a_trial(search, 0.7)
        clock.now += 3600
        shown.update(search)
        assert "0 of 1" in said(search)


def test_a_page_that_cannot_be_made_does_not_end_the_sweep(
    untrained: "Untrained", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "show", lambda *_: 1 / 0)
    clock = Clock(monkeypatch, step=0.0)
    search = untrained.search(untrained.sweep(SPACE))
    with begun(search) as shown:
        clock.now += 3600
        shown.update(search)
    assert caplog.text.count("could not be written") == 1


def test_a_sweep_begun_earlier_keeps_the_params_that_it_has(untrained: "Untrained") -> None:
    search = untrained.search(untrained.sweep(SPACE))
    with begun(search):
        end_a_trial(search, 0.7)
    with begun(untrained.search(untrained.sweep(SPACE, **{"budget.trials": 9}))):
        pass
    assert reread(search).data.params["begun_with.budget"] == "4 trials"
    assert "0.0010 to" not in said(search)
    assert "1 of 9 trials so far" in said(search)


def test_a_server_has_the_page_while_the_sweep_runs(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    store, pages = Store.open(tmp_path / "store"), []
    show = live.show

    def show_and_look(search: Search, *rest: object) -> None:
        show(search, *rest)  # type: ignore[arg-type]
        files = store.client.list_artifacts(search.sweep_run_id)
        pages.append({file.path for file in files} & {"report.html", "leaderboard.json"})

    monkeypatch.setattr(live, "show", show_and_look)
    monkeypatch.setattr(live, "_PAUSE", 0.0)
    monkeypatch.setattr(live, "_SHARE", 1e9)
    overrides = {"budget.trials": 3, "trainer.max_epochs": 1, "finalists": {"seeds": 2}}
    result = run_sweep(load_sweep("digits", overrides, name="shown early"), store=store)
    assert pages == [set(), *[{"report.html", "leaderboard.json"}] * 3]  # at the start, twice in the search, once after
    description = store.client.get_run(result.sweep_run_id).data.tags["mlflow.note.content"]
    assert "so far" not in description
    assert "[The finalists by configuration](#/experiments/" in description
