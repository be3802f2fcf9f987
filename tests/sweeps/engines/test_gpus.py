"""Each worker of a sweep sees GPUs of its own. No GPU is needed: what counts is what a trial's environment says."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from lightning_modules import InputError
from sweeps import load_sweep, run
from sweeps.engines.gpus import shares_of_gpus

TELL = """
import os
import pytorch_lightning as pl

class Tell(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        path = os.path.join(os.path.dirname(__file__), f"seen_by_{os.getpid()}")
        with open(path, "a") as file:
            print(os.environ.get("CUDA_VISIBLE_DEVICES", "nothing said"), file=file)
"""
SWEEP = """
recipe: digits
space: {optimizer.lr: [0.001, 0.003, 0.01, 0.03]}
sampler: {kind: grid}
pruner: {kind: none}
budget: {trials: 4}
overrides: {trainer.max_epochs: 1, trainer.accelerator: cpu, trainer.callbacks: [tell.Tell]}
"""


@pytest.mark.parametrize(
    ("visible", "each", "workers", "shares"),
    [
        ("4,5", 1, 2, ["4", "5"]),
        ("4,5", 1, None, ["4", "5"]),
        ("4, 5", 0.5, 4, ["4", "5", "4", "5"]),
        ("4,5", 0.4, None, ["4", "5", "4", "5"]),  # two fit on each
        ("GPU-8f,GPU-9a", 0.5, 3, ["GPU-8f", "GPU-9a", "GPU-8f"]),
        ("4,5,6,7,8", 2, None, ["4,5", "6,7"]),
        ("4,5", 0, 2, [None, None]),
    ],
)
def test_workers_take_gpus_in_turn(
    visible: str, each: float, workers: int | None, shares: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert shares_of_gpus(each, workers, cores=8) == shares


def test_without_the_variable_all_gpus_of_the_machine_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert shares_of_gpus(1, None, cores=8) == ["0", "1", "2"]
    assert shares_of_gpus(1, None, cores=2) == ["0", "1"]


@pytest.mark.parametrize(
    ("visible", "each", "workers", "said"),
    [
        ("4,5", 1, 3, "2 GPUs, enough for 2 workers .* write --workers 2"),
        ("4", 2, None, "1 GPUs, enough for 0 workers"),
        ("", 0.5, None, "0 GPUs, enough for 0 workers .* write 0"),
    ],
)
def test_too_few_gpus_are_said_in_one_line(
    visible: str, each: float, workers: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(InputError, match=said):
        shares_of_gpus(each, workers, cores=8)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "gpus.yaml").write_text(SWEEP)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    return tmp_path / "gpus.yaml"


def seen(recipe: Path) -> list[set[str]]:
    """What the trials of each process saw."""
    return [set(path.read_text().splitlines()) for path in sorted(recipe.parent.glob("seen_by_*"))]


def test_each_worker_process_sees_a_gpu_of_its_own(recipe: Path, workbench: Callable[..., Any], tmp_path: Path) -> None:
    words = ("sweep", recipe, "--workers", "2", "--resources.gpus", "1", "--finalists", "{}", "--store")
    done = workbench(*words, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    found = seen(recipe)
    assert {gpu for gpus in found for gpu in gpus} == {"4", "5"}
    assert all(len(gpus) == 1 for gpus in found)
    client = MlflowClient(f"sqlite:///{tmp_path}/store/mlflow.db")
    everywhere = [each.experiment_id for each in client.search_experiments()]
    trials = client.search_runs(everywhere, "tags.`workbench.kind` = 'trial'")
    assert {each.data.tags["workbench.outcome"] for each in trials} == {"finished"}


@pytest.mark.skipif(
    find_spec("ray") is None and not os.environ.get("CI"), reason="needs pip install -e '.[ray]' -c constraints.txt"
)
def test_each_trial_on_a_cluster_sees_a_gpu_of_its_own(recipe: Path, tmp_path: Path) -> None:
    from experiments import Store

    sweep = load_sweep(str(recipe), {"resources.gpus": 1.0, "finalists": {}})
    run(sweep, store=Store.open(tmp_path / "store"), engine="ray", workers=2)
    assert {gpu for gpus in seen(recipe) for gpu in gpus} == {"4", "5"}
    assert all(len(gpus) == 1 for gpus in seen(recipe))
