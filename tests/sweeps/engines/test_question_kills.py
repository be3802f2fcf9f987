"""A sweep with a question whose processes are killed, or that two commands run at once: exact totals in every arm."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.stock import stock_storage
from tests.sweeps.engines.test_workers import COUNTING, assert_at_rest, chaos
from tests.warm_python import WarmPython

Start = Callable[..., WarmPython]

RECIPE = """
recipe: digits
overrides: {{trainer.max_epochs: {epochs}}}
space:
  optimizer.kind: [sgd, adam]
  optimizer.lr: {{low: 1.0e-3, high: 1.0e-1, log: true}}
  optimizer.momentum: {{low: 0.5, high: 0.99, when: {{optimizer.kind: sgd}}}}
question: {{compare: optimizer.kind}}
budget: {{trials: {trials}}}
pruner: {{kind: none}}
finalists: {{seeds: 2}}
"""


def counted(store: Path, sweep: str) -> dict[str, int]:
    """How many trials count in each study with trials."""
    studies = optuna.get_all_study_summaries(stock_storage(store))
    found = {}
    for name in (study.study_name for study in studies if study.n_trials):
        trials = optuna.load_study(study_name=name, storage=stock_storage(store)).trials
        kept = [trial for trial in trials if trial.user_attrs.get("outcome") in COUNTING]
        found[name] = len(kept)
        places = Counter(str(trial.user_attrs.get("slot", trial.user_attrs.get("place"))) for trial in kept)
        assert set(places.values()) == {1}, places
    return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("trials", "kills", "epochs"),
    [pytest.param(20, 10, "10", marks=pytest.mark.soak), (4, 3, "4")],
    ids=["whole", "short"],
)
def test_a_killed_question_ends_with_exactly_its_trials_in_every_arm(
    tmp_path: Path, start_workbench: Start, poll: Callable[..., Any], trials: int, kills: int, epochs: str
) -> None:
    recipe = tmp_path / "asked.yaml"
    recipe.write_text(RECIPE.format(trials=trials, epochs=epochs))
    words = ("sweep", recipe, "--workers", "2", "--store", tmp_path / "store", "--json")
    chaos(tmp_path / "store", lambda: start_workbench(*words), poll, kills=kills)
    assert counted(tmp_path / "store", "asked") == {
        "asked arm sgd": trials // 2,
        "asked arm adam": trials // 2,
        "asked finalists arm sgd": 2,
        "asked finalists arm adam": 2,
    }
    assert_at_rest(tmp_path / "store")


@pytest.mark.timeout(1200)
def test_two_commands_answer_one_question(tmp_path: Path, start_workbench: Start) -> None:
    recipe = tmp_path / "asked.yaml"
    recipe.write_text(RECIPE.format(trials=4, epochs=2))
    words = ("sweep", recipe, "--workers", "1", "--store", tmp_path / "store", "--json")
    both = [start_workbench(*words) for _ in range(2)]
    one, other = [json.loads(command.communicate()[0]) for command in both]
    assert [command.returncode for command in both] == [0, 0]
    assert one["question"] == other["question"]
    assert one["trials"] == other["trials"]
    assert {arm["value"]: arm["trials"] for arm in one["question"]["arms"]} == {"sgd": 2, "adam": 2}
    assert counted(tmp_path / "store", "asked")["asked finalists arm adam"] == 2
    assert_at_rest(tmp_path / "store")
