"""The workbench's sweep over the trials of benchmarks/textbook_optuna.py: the same learning rates, nothing pruned.

Both sides train every learning rate for all epochs, score it on val, train the best once more (here: one finalist, one
seed) and test that one, so both do five trainings. The points are put into the study before its first trial.
"""

import uuid
from pathlib import Path

import sweeps
from benchmarks.textbook_optuna import LEARNING_RATES
from experiments import ExperimentConfig, Store
from lightning_modules.datamodule import load_dataset
from sweeps.config import BudgetConfig, PrunerConfig, Sweep, SweepConfig
from sweeps.space import SearchSpace
from sweeps.study import open_study


def sweep(config: ExperimentConfig, folder: Path) -> float:
    """A whole sweep, under a name of its own; the champion's accuracy on test."""
    settings = SweepConfig(
        recipe="fashion_mnist",
        space={"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        budget=BudgetConfig(trials=len(LEARNING_RATES)),
        pruner=PrunerConfig(kind="none"),
    )
    space = SearchSpace.parse(settings.space, config)
    grid = Sweep(name=f"grid {uuid.uuid4().hex}", config=settings, base=config, space=space)
    store = Store.open(folder)
    study = open_study(store, grid, load_dataset(config.data).sha256)
    for learning_rate in LEARNING_RATES:
        study.enqueue_trial({"optimizer.lr": learning_rate})
    champion = sweeps.run(grid, store=store).champion
    assert champion is not None
    return float(champion["test_accuracy"]["mean"])
