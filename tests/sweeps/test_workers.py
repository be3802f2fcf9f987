"""Several processes at one sweep: exact totals, whatever dies."""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from experiments.owner import Owner
from lightning_modules.datasets.base import Location
from lightning_modules.datasets.digits import SOURCES
from lightning_modules.datasets.shared import map_shared, save_shared

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]

SWEEP = ("sweep", "digits", "--workers", "2", "--trainer.max_epochs", "4", "--pruner.kind", "none")
CRASHING = """
import os, signal
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    def forward(self, images):
        if self.training and {condition}:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(images)
"""


def trial_runs(store: Path) -> list[Run]:
    if not (store / "mlflow.db").exists():
        return []
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, "tags.`workbench.kind` = 'trial'", max_results=1000))


def outcomes(store: Path, sweep: str = "digits") -> dict[int, str]:
    """Each trial's outcome, after checking that both stores tell the same and are intact."""
    trials = optuna.load_study(study_name=sweep, storage=f"sqlite:///{store}/optuna.db").trials
    told = {trial.number: str(trial.user_attrs["outcome"]) for trial in trials}
    in_mlflow = {int(run.data.tags["workbench.trial"]): run.data.tags["workbench.outcome"] for run in trial_runs(store)}
    assert in_mlflow.items() <= told.items()
    for database in ("mlflow.db", "optuna.db"):
        with closing(sqlite3.connect(store / database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return told


def counting(told: dict[int, str]) -> int:
    return sum(outcome in {"finished", "pruned", "failed"} for outcome in told.values())


def workers_at_work(store: Path) -> set[int]:
    """The ids of the processes whose trials run now."""
    owners = [
        Owner.parse(run.data.tags["workbench.owner"]) for run in trial_runs(store) if run.info.status == "RUNNING"
    ]
    return {owner.pid for owner in owners if owner is not None}


def test_two_workers_train_at_once_and_a_killed_one_is_replaced(tmp_path: Path, start_workbench: Start) -> None:
    sweep = start_workbench(*SWEEP, "--budget.trials", "8", "--store", tmp_path, "--json")
    while len(at_work := workers_at_work(tmp_path)) < 2:
        assert sweep.poll() is None
    killed = min(at_work)
    os.kill(killed, signal.SIGKILL)
    printed, said = sweep.communicate()
    assert sweep.returncode == 0, said
    told = outcomes(tmp_path)
    assert counting(told) == 8
    assert list(told.values()).count("died") == 1
    assert len(json.loads(printed)["trials"]) == 9
    owners = {run.data.tags["workbench.owner"] for run in trial_runs(tmp_path)}
    assert len(owners) == 3  # two workers, and the one that came for the killed one
    trials = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    (died,) = [trial for trial in trials if trial.user_attrs["outcome"] == "died"]
    again = [trial for trial in trials if trial.user_attrs["slot"] == died.user_attrs["slot"]][-1]
    assert (again.params, again.user_attrs["seed"]) == (died.params, died.user_attrs["seed"])


def test_a_network_that_always_crashes_python_ends_the_sweep_with_a_clear_word(
    tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_net.py").write_text(CRASHING.format(condition="True"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("--model.network", "crashing_net.Net", "--retries", "0", "--store", tmp_path / "store")
    ended = workbench(*SWEEP, *words)
    assert ended.returncode == 1
    assert "workers died in a row" in ended.stderr.splitlines()[-1]
    assert set(outcomes(tmp_path / "store").values()) <= {"died", "interrupted"}
    assert not workers_at_work(tmp_path / "store")


def test_workers_end_with_their_command_and_the_next_one_goes_on(
    tmp_path: Path, workbench: Workbench, start_workbench: Start
) -> None:
    sweep = start_workbench(*SWEEP, "--budget.trials", "6", "--store", tmp_path)
    while len(at_work := workers_at_work(tmp_path)) < 2:
        assert sweep.poll() is None
    workers = [psutil.Process(pid) for pid in at_work]
    os.kill(sweep.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert workbench(*SWEEP, "--budget.trials", "6", "--store", tmp_path).returncode == 0
    assert counting(outcomes(tmp_path)) == 6


def test_two_commands_share_one_sweep(tmp_path: Path, start_workbench: Start) -> None:
    words = (*SWEEP, "--budget.trials", "8", "--finalists.top", "2", "--store", tmp_path, "--json")
    both = [start_workbench(*words) for _ in range(2)]
    documents = [json.loads(command.communicate()[0]) for command in both]
    assert [command.returncode for command in both] == [0, 0]
    assert counting(outcomes(tmp_path)) == 8
    assert documents[0]["trials"] == documents[1]["trials"]
    assert documents[0]["champion"] == documents[1]["champion"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(client.search_runs(["1"], "tags.`workbench.kind` = 'finalist'")) == 2


def test_a_shared_data_set_is_the_same_and_changes_stay_private(tmp_path: Path) -> None:
    digits = SOURCES["digits"].load(Location())
    save_shared(digits, tmp_path)
    one, other = map_shared(tmp_path), map_shared(tmp_path)
    assert one.sha256 == digits.sha256
    one.train.images[0] = 0
    np.testing.assert_array_equal(other.train.images, digits.train.images)
