"""What breaks all trials alike ends a sweep early; what breaks one is that trial's result."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState, create_trial

from experiments import Store
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.errors import SweepStoppedError
from sweeps.strategy.budget import counts
from sweeps.study.failures import FirstFailures
from tests.stock import stock_storage

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]

BROKEN = """
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    batches = 0

    def forward(self, images):
        self.batches += self.training
        if self.batches > 20:  # long after the rehearsal
            raise ValueError(f"no forward for {images.shape}, id {id(images)}")
        return super().forward(images)
"""
GREEDY = """
import torch
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    def forward(self, images):
        return super().forward(images) + torch.empty(len(images), 2**50).sum()
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module with a network `Net`, and gives the network's dotted path."""

    def write(source: str) -> str:
        name = f"net_{abs(hash((source, str(tmp_path))))}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return f"{name}.Net"

    return write


def see_all(*endings: tuple[str, str]) -> None:
    first = FirstFailures()
    for outcome, error in endings:
        first.see(create_trial(state=TrialState.FAIL, user_attrs={"outcome": outcome, "error": error}))


def test_eight_first_trials_that_fail_alike_are_enough() -> None:
    alike = [("failed", f"ValueError: bad shape {n}") for n in range(8)]
    see_all(*alike[:7])
    with pytest.raises(SweepStoppedError, match="the first 8 trials all failed: ValueError: bad shape 7"):
        see_all(*alike)
    with pytest.raises(SweepStoppedError):
        see_all(("died", ""), *alike)  # says nothing of the trial
    see_all(("finished", ""), *alike)
    see_all(("failed", "KeyError: 1"), *alike)


def test_a_network_that_always_fails_ends_the_sweep_with_its_error(
    tmp_path: Path, workbench: Workbench, network: Callable[[str], str]
) -> None:
    words = ("sweep", "digits", "--model.network", network(BROKEN), "--budget.trials", "40", "--store", tmp_path / "s")
    ended = workbench(*words, "--workers", "2")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: the first 8 trials all failed: ValueError: no forward")
    assert "Traceback" not in ended.stderr
    study = optuna.load_study(study_name="digits", storage=stock_storage(tmp_path / "s"))
    assert 8 <= sum(map(counts, study.get_trials())) <= 10
    client = MlflowClient(f"sqlite:///{tmp_path}/s/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.`workbench.kind` = 'sweep'")
    assert (run.info.status, run.data.tags["workbench.outcome"]) == ("FAILED", "failed")
    assert "the first 8 trials" in run.data.tags["workbench.error"]
    assert not client.search_runs(["1"], "attributes.status = 'RUNNING'")


def test_a_trial_that_memory_does_not_suffice_for_has_failed_and_names_its_batch_size(
    tmp_path: Path, network: Callable[[str], str]
) -> None:
    store = Store.open(tmp_path / "store")
    recipe = tmp_path / "greedy.yaml"
    recipe.write_text("recipe: digits\nspace: {optimizer.lr: [0.1]}\nbudget: {trials: 1}\n")
    overrides = {"model.network": network(GREEDY), "data.batch_size": 48}
    result = run_sweep(load_sweep(str(recipe), overrides), store=store)
    (trial,) = result.trials
    assert (trial["state"], trial["outcome"]) == ("FAIL", "failed")
    assert result.champion is None
    tags = store.client.get_run(trial["run_id"]).data.tags
    assert tags["workbench.outcome"] == "failed"
    assert "out of memory with data.batch_size 48" in tags["workbench.error"]
