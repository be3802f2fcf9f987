"""What the runner knows of a task: its modules, what they log, and what a run keeps of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from mlflow.entities import DatasetInput

from experiments.config import ExperimentConfig
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.trace import Digests


@dataclass(kw_only=True)
class Task(ABC):
    """A module that is ready to train, and its data."""

    config: ExperimentConfig
    module: pl.LightningModule
    data: pl.LightningDataModule
    digests: Digests

    @abstractmethod
    def inputs(self) -> list[DatasetInput]:
        """Describes each split's data for MLflow."""

    @abstractmethod
    def record_data(self, run: TrackedRun) -> None:
        """Writes what was found out about the data, before training."""

    @abstractmethod
    def execute_steps(self, callbacks: Sequence[pl.Callback]) -> Mapping[str, Any]:
        """Decides how training steps are executed; returns arguments of the Trainer that differ from the config's."""

    @abstractmethod
    def is_score(self, name: str) -> bool:
        """Whether a metric that the modules log is a score of an epoch, which the run's trace and metrics have."""

    @abstractmethod
    def name_within_epoch(self, name: str) -> str | None:
        """Returns the name in MLflow of what Lightning passes to its logger; None if only the epoch's score counts."""

    @abstractmethod
    def throughput(self, seconds: float) -> dict[str, float]:
        """Returns the metric of how much was trained in a second, for an epoch that took this long."""

    @abstractmethod
    def record_training(self, run: TrackedRun, history: Sequence[Mapping[str, float]]) -> None:
        """Draws the scores of all epochs."""

    @abstractmethod
    def record_val(self, run: TrackedRun, trainer: pl.Trainer | None) -> None:
        """Writes the predictions for the val split. `trainer`: makes them anew, if the weights are not the last."""

    @abstractmethod
    def record_test(self, run: TrackedRun, trainer: pl.Trainer) -> dict[str, float]:
        """Scores the test split, writes its predictions and the model; returns the scores, named `test/…`."""

    @abstractmethod
    def shown_scores(self, names: Sequence[str]) -> list[str]:
        """Returns those of the run's metrics that its description shows, in order."""
