"""Constraints, on real trials of one or two epochs."""

from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from mlflow import MlflowClient

from experiments import Store
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps import run as run_sweep
from sweeps.strategy.limits import ConstraintsConfig, PeakMemory
from tests.stock import stock_storage


def sweep_with(folder: Path, constraints: str, trials: int) -> tuple[dict[str, object], optuna.Study, MlflowClient]:
    recipe = folder / "limited.yaml"
    recipe.write_text(
        "recipe: digits\noverrides: {trainer.max_epochs: 2}\nspace: {model.network_args.hidden: [8, 256]}\n"
        f"sampler: {{kind: grid}}\nbudget: {{trials: {trials}}}\nfinalists: {{top: 3}}\nconstraints: {constraints}\n"
    )
    result = run_sweep(load_sweep(str(recipe)), store=Store.open(folder / "store"))
    study = optuna.load_study(study_name="limited", storage=stock_storage(folder / "store"))
    return result.as_dict(), study, MlflowClient(f"sqlite:///{folder}/store/mlflow.db")


def test_a_network_with_too_many_parameters_is_not_trained_and_never_a_finalist(tmp_path: Path) -> None:
    result, study, client = sweep_with(tmp_path, "{parameters: 20000}", 2)
    small, large = sorted(study.trials, key=lambda trial: int(trial.params["model.network_args.hidden"]))
    assert (small.state.name, large.state.name) == ("COMPLETE", "PRUNED")
    # On 8 x 8 images: 32 filters of 3 x 3 with biases; 3 x 3 x 32 pooled values to 256 units; those to 10 classes.
    parameters = 32 * (9 + 1) + (288 + 1) * 256 + (256 + 1) * 10
    assert large.constraints["parameters"] == pytest.approx(parameters / 20000 - 1)
    assert small.constraints["parameters"] < 0
    assert "constraints.parameters" in large.user_attrs["error"]
    (run,) = client.search_runs(["1"], f"tags.`workbench.trial` = '{large.number}' and tags.`workbench.kind` = 'trial'")
    assert (run.info.status, run.data.tags["workbench.outcome"]) == ("KILLED", "pruned")
    assert "val/accuracy" not in run.data.metrics
    assert result["best"]["number"] == small.number  # type: ignore[index]
    assert [finalist["number"] for finalist in result["finalists"]] == [small.number]  # type: ignore[attr-defined]


@pytest.mark.parametrize("limit", ["seconds: 1.0e-6", "memory_mb: 1"])
def test_a_trial_beyond_its_time_or_memory_ends_after_an_epoch(tmp_path: Path, limit: str) -> None:
    result, study, _ = sweep_with(tmp_path, f"{{{limit}}}", 1)
    (trial,) = study.trials
    assert (trial.state.name, list(trial.intermediate_values)) == ("PRUNED", [1])
    assert trial.constraints[limit.partition(":")[0]] > 0
    assert (result["best"], result["champion"]) == (None, None)


def test_peak_memory_is_that_of_the_training_alone() -> None:
    cpu = torch.device("cpu")
    before = PeakMemory(cpu).read()
    memory = PeakMemory(cpu)
    np.ones(25 * 2**20)  # 200 MiB, given back at once
    assert memory.read() > before + 150
    assert PeakMemory(cpu).read() < before + 50


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"^constraints\.seconds: "):
        ConstraintsConfig(seconds=0)
