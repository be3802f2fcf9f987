"""A Lightning logger that passes what callbacks log, such as a learning rate, to the tracked run."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from experiments.tracking.tracked_run import TrackedRun


class RunLogger(Logger):
    """Passes on everything except the scores of an epoch, which an observer of the epoch logs.

    `rename` returns the name of a metric in MLflow, and None for a score. It never sets the run's status; `open_run`
    does.
    """

    def __init__(self, run: TrackedRun, rename: Callable[[str], str | None]) -> None:
        super().__init__()
        self._run, self._rename = run, rename

    @property
    def name(self) -> str:
        return str(self._run.name)

    @property
    def version(self) -> str:
        return self._run.run_id

    @property
    def save_dir(self) -> str:
        return str(self._run.folder)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        named = {self._rename(name): value for name, value in metrics.items() if name != "epoch"}
        own = {name: value for name, value in named.items() if name is not None}
        self._run.log_metrics(own, step or 0)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the configuration is logged when the run starts."""
