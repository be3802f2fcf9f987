"""Who is champion: a finalist, or the recipe's own settings; and finals that go on where they were left."""

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState, create_trial

from experiments import Store
from experiments.process.interrupts import Interrupted
from experiments.tracking.runs import list_runs, resolve
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.report.leaderboard import verdict
from sweeps.study.finalists import BASELINE, Finalist, champion_of
from sweeps.study.trial import _Report
from workbench import main


@pytest.mark.parametrize(
    ("scores", "sign", "champion"),
    [
        ({7: [0.98, 0.97], 3: [0.97, 0.97], BASELINE: [0.97, 0.96]}, 1, 7),
        ({7: [0.98, 0.97], 3: [0.97, 0.97], BASELINE: [0.99, 0.97]}, 1, BASELINE),
        ({7: [0.98, 0.97], BASELINE: [0.97, 0.98]}, 1, BASELINE),
        # The same 420 of 3 x 144 images, whose sums differ in the last bit.
        ({7: [141 / 144, 140 / 144, 139 / 144], BASELINE: [140 / 144] * 3}, 1, BASELINE),
        ({7: [0.05, 0.06], BASELINE: [0.06, 0.07]}, -1, 7),  # of a loss the lowest
        ({7: [0.05, 0.06], BASELINE: [0.05, 0.05]}, -1, BASELINE),
        ({7: [0.98], BASELINE: [nan]}, 1, 7),
        ({7: [0.98, nan], BASELINE: [0.5, 0.5]}, 1, BASELINE),
        ({7: [0.98, nan]}, 1, None),
        ({7: [nan], BASELINE: [nan]}, 1, None),
        ({7: [0.97, 0.97], 3: [0.97, 0.97]}, 1, 7),  # without the baseline, the first of equals
        ({}, 1, None),
    ],
)
def test_a_trial_is_champion_only_where_its_mean_is_above_the_recipe_s_own(
    scores: dict[int, list[float]], sign: int, champion: int | None
) -> None:
    finalists = [
        Finalist(number=number, params={}, trials=list(map(ended, values))) for number, values in scores.items()
    ]
    found = champion_of(finalists, sign)
    assert (None if found is None else found.number) == champion


def ended(value: float) -> FrozenTrial:
    failed = isnan(value)
    return create_trial(value=None if failed else value, state=TrialState.FAIL if failed else TrialState.COMPLETE)


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The recipe and the first report of a sweep over learning rates that learn nothing, one finalist, one seed."""
    folder = tmp_path_factory.mktemp("hopeless")
    (folder / "hopeless.yaml").write_text(
        "recipe: digits\noverrides: {trainer.max_epochs: 2}\nspace: {optimizer.lr: [1.0e-7, 1.0e-6]}\n"
        "budget: {trials: 2}\nsampler: {kind: grid}\npruner: {kind: none}\n"
    )
    result = run_sweep(load_sweep(str(folder / "hopeless.yaml")), store=Store.open(folder / "store"))
    return folder, result.as_dict()


def test_one_seed_has_no_interval_and_no_luck(hopeless: tuple[Path, dict[str, Any]]) -> None:
    folder, first = hopeless
    assert first["luck"] is None
    assert first["champion"]["test_accuracy"]["ci95"] is None
    assert first["champion"]["number"] == first["finalists"][0]["number"]
    note = Store.open(folder / "store").client.get_run(first["sweep_run_id"]).data.tags["mlflow.note.content"]
    page = (folder / "store" / "artifacts" / first["sweep_run_id"] / "artifacts" / "report.html").read_text()
    for shown in (note, page):
        assert "Best trial: trial" in shown
        assert "hampion" not in shown


def test_a_finished_sweep_takes_more_finalists_is_interrupted_among_them_and_its_own_settings_win(
    hopeless: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = hopeless
    store = Store.open(folder / "store")
    more = {"finalists.top": 2, "finalists.seeds": 2, "finalists.baseline": True}
    with monkeypatch.context() as patch:
        patch.setattr(_Report, "__call__", interrupting(_Report.__call__, finalist=3))
        with pytest.raises(Interrupted):
            run_sweep(load_sweep(str(folder / "hopeless.yaml"), more), store=store)
    told = StringIO()
    words = [word for name, value in more.items() for word in (f"--{name}", str(value))]
    with redirect_stdout(told):
        assert main(["sweep", str(folder / "hopeless.yaml"), *words, "--store", str(store.folder)]) == 0
    second = json.loads(
        (folder / "store" / "artifacts" / first["sweep_run_id"] / "artifacts/leaderboard.json").read_text()
    )

    assert second["trials"] == first["trials"]
    runs = list_runs(store, kind="finalist")
    assert sorted(run.outcome for run in runs) == ["finished"] * 6 + ["interrupted"]
    assert first["finalists"][0]["run_ids"][0] in {run_id for each in second["finalists"] for run_id in each["run_ids"]}

    champion, baseline = second["champion"], second["baseline"]
    assert champion["number"] is None
    assert champion["run_ids"] == baseline["run_ids"]
    best = second["finalists"][0]
    apart = [one - other for one, other in zip(best["values"], baseline["values"], strict=True)]
    assert baseline["mean"] > 0.6 > 0.4 > best["mean"]
    assert baseline["difference"] == pytest.approx(sum(apart) / 2)
    margin = 12.7062 * abs(apart[0] - apart[1]) / 2  # t of 1 degree of freedom; the standard error is half the distance
    interval = [sum(apart) / 2 - margin, sum(apart) / 2 + margin]
    assert baseline["difference_ci95"] == (pytest.approx(interval, abs=1e-5) if margin > 1e-9 else None)

    line = "Champion: the recipe's own settings: no trial did better over 2 fresh seeds; val/accuracy "
    assert told.getvalue().startswith(verdict(second))
    assert f"\n{line}" in told.getvalue()
    tags = store.client.get_run(second["sweep_run_id"]).data.tags
    assert tags["mlflow.note.content"].startswith(f"**{verdict(second)}**\n{line}")
    assert json.loads(tags["workbench.champion_run_ids"]) == baseline["run_ids"]
    assert [run.run_id for run in resolve(store, "hopeless:champion")] == baseline["run_ids"]
    client: MlflowClient = store.client
    assert client.get_model_version_by_alias("hopeless", "champion").run_id == baseline["run_ids"][0]
    tests = [client.get_run(run_id).data.metrics["test/accuracy"] for run_id in baseline["run_ids"]]
    assert champion["test_accuracy"]["mean"] == pytest.approx(sum(tests) / 2)
    # The champion of the first report has read test before; of the others nobody has.
    tested = {run.run_id for run in runs if "test/accuracy" in run.metrics}
    assert tested == {*baseline["run_ids"], *first["champion"]["run_ids"]}


def interrupting(observe: Callable[[_Report, Any], None], *, finalist: int) -> Callable[[_Report, Any], None]:
    """`observe`, with a Ctrl-C after the first epoch of that trial of the finals."""

    def observed(report: _Report, epoch: Any) -> None:
        observe(report, epoch)
        trial = report._trial
        if trial.study.study_name.endswith("finalists") and trial.number == finalist:
            raise Interrupted("SIGINT")

    return observed
