"""Decides when a trial is stopped early: Optuna's pruners, with epochs as their steps."""

import warnings
from typing import Annotated, Any, Literal

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from pydantic import Field, NonNegativeFloat

from lightning_modules import InputError
from lightning_modules.config import Epochs, Natural, check_settings, section
from sweeps.strategy.settings import settings_of
from sweeps.strategy.top_k import TopKPruner

PrunerKind = Literal["median", "percentile", "successive_halving", "hyperband", "top_k", "patience", "none"]

SETTINGS: dict[str, dict[str, Any]] = {
    "median": {"startup_trials": 5, "warmup_epochs": 1},
    "percentile": {"startup_trials": 5, "warmup_epochs": 1, "percentile": 25.0},
    "successive_halving": {"min_epochs": 1, "reduction_factor": 4},
    "hyperband": {"min_epochs": 1, "reduction_factor": 3},
    "top_k": {"keep": 5, "min_epochs": 1},
    "patience": {"patience": 3, "min_delta": 0.0},
    "none": {},
}


@section("pruner")
class PrunerConfig:
    """When a trial is stopped early. A null setting has its kind's default. A setting of another kind is an error.

    `median`, `percentile`: a trial continues while its best epoch is among the best half, or `percentile` percent, of
    the complete trials' scores in the same epoch. `successive_halving` (asynchronous; Li et al. 2020): after
    `min_epochs`, then `reduction_factor` times as many, and so on, the best 1/`reduction_factor` of the trials that got
    so far continue. `hyperband` (Li et al. 2018): several of these, each starting later, up to trainer.max_epochs.
    `top_k` (Egele et al. 2023): after `min_epochs`, a trial continues if it is among the best `keep` so far.
    `patience`: a trial stops if its last `patience` + 1 epochs are all worse than an earlier one by over `min_delta`.
    """

    kind: PrunerKind = "median"
    """How a trial is judged against the others."""

    startup_trials: Natural | None = None
    """Kinds median, percentile (null: 5): complete trials before any is pruned."""

    warmup_epochs: Natural | None = None
    """Kinds median, percentile (null: 1): epochs that every trial may run."""

    percentile: Annotated[float, Field(ge=0, le=100, examples=[25])] | None = None
    """Kind percentile (null: 25): the share of the trials that continue, in percent."""

    min_epochs: Epochs | None = None
    """Kinds successive_halving, hyperband, top_k (null: 1): epochs before the first decision."""

    reduction_factor: Annotated[int, Field(ge=2, le=10**6, examples=[3])] | None = None
    """Kinds successive_halving (null: 4), hyperband (null: 3): one in this many trials continues."""

    keep: Annotated[int, Field(ge=1, le=10**6, examples=[5])] | None = None
    """Kind top_k (null: 5): how many of the trials so far may be better, with itself."""

    patience: Natural | None = None
    """Kind patience (null: 3): how many epochs a trial may be worse than an earlier one."""

    min_delta: NonNegativeFloat | None = None
    """Kind patience (null: 0): the smallest difference that counts, in units of the objective."""

    def __post_init__(self) -> None:
        if self.kind != "none":  # `none` switches off a recipe's pruner, whatever its settings
            check_settings("pruner", self, SETTINGS)


def check_pruner(config: PrunerConfig, max_epochs: int) -> None:
    """Raises InputError if the pruner could never stop a trial of `max_epochs` epochs."""
    epochs = settings_of(config, SETTINGS).get("min_epochs", 1)
    if epochs > max_epochs:
        message = f"no trial has more than {max_epochs} epochs (trainer.max_epochs)"
        raise InputError("pruner.min_epochs", epochs, message, f"give {max_epochs} or less")


def make_pruner(config: PrunerConfig, max_epochs: int) -> BasePruner:
    """Returns Optuna's pruner. `max_epochs` are the epochs of the longest trial."""
    settings = settings_of(config, SETTINGS)
    match config.kind:
        case "median":
            startup, warmup = settings["startup_trials"], settings["warmup_epochs"]
            return MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
        case "percentile":
            startup, warmup = settings["startup_trials"], settings["warmup_epochs"]
            return PercentilePruner(settings["percentile"], n_startup_trials=startup, n_warmup_steps=warmup)
        case "successive_halving":
            factor = settings["reduction_factor"]
            return SuccessiveHalvingPruner(min_resource=settings["min_epochs"], reduction_factor=factor)
        case "hyperband":
            least, factor = settings["min_epochs"], settings["reduction_factor"]
            return HyperbandPruner(min_resource=least, max_resource=max_epochs, reduction_factor=factor)
        case "top_k":
            return TopKPruner(keep=settings["keep"], epoch=settings["min_epochs"])
        case "patience":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # experimental since Optuna 2.8
                return PatientPruner(None, patience=settings["patience"], min_delta=settings["min_delta"])
        case _:
            return NopPruner()
