"""The workbench's sweep over given learning rates, without pruning.

Compared with benchmarks/textbook_optuna.py: both sides train every learning rate for all epochs, score it on val, train
the best once more (here: one finalist, one seed) and test that one. So both do nine trainings.
"""

import multiprocessing
import os
import uuid
from pathlib import Path

import sweeps
from benchmarks.textbook_optuna import LEARNING_RATES
from experiments import ExperimentConfig, Store
from sweeps.config import BudgetConfig, FinalistsConfig, PrunerConfig, Sweep, SweepConfig
from sweeps.engines import local
from sweeps.strategy.space import SearchSpace
from sweeps.strategy.start import StartConfig


def import_for_workers() -> None:
    """Returns when the server that workers are forked from has imported everything."""
    local.warm_up()
    first = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    first.start()
    first.join()


def sweep(config: ExperimentConfig, folder: Path) -> float:
    """A whole sweep over the textbook's learning rates with two workers; returns the champion's accuracy on test."""
    return _sweep(config, folder, finalists=1, workers=2)


def sweep_by_one(config: ExperimentConfig, folder: Path) -> float:
    """Eight trials and two finalists, one after another."""
    return _sweep(config, folder, finalists=2, workers=1)


def sweep_by_two(config: ExperimentConfig, folder: Path) -> float:
    """The same, two at a time."""
    return _sweep(config, folder, finalists=2, workers=2)


def _sweep(config: ExperimentConfig, folder: Path, *, finalists: int, workers: int) -> float:
    settings = SweepConfig(
        recipe="fashion_mnist",
        space={"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        budget=BudgetConfig(trials=len(LEARNING_RATES)),
        start=StartConfig(points=[{"optimizer.lr": learning_rate} for learning_rate in LEARNING_RATES]),
        pruner=PrunerConfig(kind="none"),
        finalists=FinalistsConfig(top=finalists),
    )
    config = config.with_overrides({"trainer.threads": 1})  # of a worker
    space = SearchSpace.parse(settings.space, config)
    named = Sweep(name=f"learning rates {uuid.uuid4().hex}", config=settings, base=config, space=space)
    champion = sweeps.run(named, store=Store.open(folder), workers=workers).champion
    assert champion is not None
    return float(champion["test_accuracy"]["mean"])
