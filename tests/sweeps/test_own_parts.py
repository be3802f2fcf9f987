"""A sweep over a recipe whose parts come from a file beside it: workers find the file, and a kill loses nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

import workbench
from lightning_modules import InputError
from sweeps import load_sweep
from tests.stock import stock_storage
from tests.warm_python import WarmPython

TESTS = Path(__file__).parents[1]
SWEEP = """
recipe: own_parts.yaml
overrides: {trainer.max_epochs: 2}
space:
  optimizer.args.scale: [0.05, 0.1, 0.2, 0.4]
  model.loss_args.smoothing: [0.1]
objective: {metric: val/confidence, direction: maximize}
sampler: {kind: grid}
pruner: {kind: none}
budget: {trials: 4}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name in ("own_parts.py", "own_parts.yaml"):
        shutil.copy(TESTS / name, tmp_path)
    path = tmp_path / "own_sweep.yaml"
    path.write_text(SWEEP)
    return path


def test_it_goes_on_after_a_kill_and_its_best_trial_reproduces(
    recipe: Path,
    start_workbench: Callable[..., WarmPython],
    poll: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = recipe.parent / "store"
    words = ("sweep", recipe, "--workers", "2", "--store", store, "--json")
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")

    def one_has_ended() -> bool:
        assert killed.poll() is None
        ended = "tags.`workbench.kind` = 'trial' and attributes.status = 'FINISHED'"
        return (store / "mlflow.db").exists() and bool(client.search_runs(["1"], ended))

    killed = start_workbench(*words)
    poll(one_has_ended, seconds=240)
    killed.kill()
    killed.wait()
    again = start_workbench(*words)
    printed, said = again.communicate()
    assert again.returncode == 0, said
    document = json.loads(printed)
    trials = optuna.load_study(study_name="own_sweep", storage=stock_storage(store)).trials
    finished = [trial for trial in trials if trial.user_attrs["outcome"] == "finished"]
    assert sorted(trial.user_attrs["slot"] for trial in finished) == [0, 1, 2, 3]
    assert document["best"]["value"] == max(trial.value for trial in finished)
    assert "test_confidence" in document["champion"]
    assert workbench.main(["reproduce", "own_sweep:best", "--store", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["verdict"] == "bitwise"
    assert workbench.main(["predict", "own_sweep:best", str(recipe), "--store", str(store)]) == 2
    assert "this trial kept no model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("optimizer.args.scale", "optimizer.args.scal", r"space\.optimizer\.args\.scal: .*did you mean 'scale'"),
        ("val/confidence, direction: maximize", "val/confidence, direction: minimize", r"objective\.direction: "),
        ("val/confidence", "val/confidance", r"objective\.metric: no such metric .*did you mean 'val/confidence'"),
    ],
)
def test_what_is_misspelt_is_refused(recipe: Path, old: str, new: str, message: str) -> None:
    recipe.write_text(SWEEP.replace(old, new))
    with pytest.raises(InputError, match=f"^{message}"):
        load_sweep(str(recipe))
