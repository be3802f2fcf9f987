"""Optuna's study.optimize over the textbook Lightning version, one trial after another.

Each learning rate of a grid is scored on val. The best one is trained once more and tested.
"""

from pathlib import Path

import optuna
from torch import Tensor

from benchmarks import textbook_lightning

LEARNING_RATES = [1e-3 * 1.3**power for power in range(-4, 4)]  # training works with all of them


def search(splits: dict[str, tuple[Tensor, Tensor]], epochs: int, folder: Path) -> float:
    """Returns the accuracy on test with the learning rate that was best on val; study and runs are in `folder`."""

    def objective(trial: optuna.Trial) -> float:
        learning_rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trainer, _ = textbook_lightning.fit(splits, epochs, folder, learning_rate)
        return float(trainer.callback_metrics["val_acc"])

    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}",
        sampler=optuna.samplers.GridSampler({"learning_rate": LEARNING_RATES}),
        direction="maximize",
    )
    study.optimize(objective, n_trials=len(LEARNING_RATES))
    return textbook_lightning.train(splits, epochs, folder, study.best_params["learning_rate"])
