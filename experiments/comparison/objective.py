"""The metric that runs are ranked and tested by: the monitored metric, on val, or on test if all runs have read it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from experiments.tracking.runs import RunSummary
from lightning_modules.metrics import METRICS, Answers, Direction, Metric, find_metric

Split = Literal["val", "test"]

_DEFAULT = "val/accuracy"


@dataclass(frozen=True)
class Objective:
    """A metric on one split.

    `of_own_task`: the runs trained modules of the user's own, so that only these know what the metric means.
    """

    metric: Metric
    split: Split
    of_own_task: bool = False

    @property
    def logged(self) -> str:
        """The name in MLflow, such as `test/accuracy`."""
        return self.metric.name if self.of_own_task else f"{self.split}/{self.metric.name}"

    def score(self, run: RunSummary) -> float | None:
        """Returns the value for the weights that the run kept; None for a run that was pruned or failed."""
        if self.split == "test":
            return run.metrics.get(self.logged)
        if "value" not in run.metrics:
            return None
        return run.metrics["value"] if _monitored(run) == self.logged else run.metrics.get(self.logged)

    def others(self) -> "list[Objective]":
        """Returns the same split with every other metric of which a test can resample images."""
        known = (metric for metric in METRICS.values() if metric.terms is not None)
        return [Objective(metric, self.split) for metric in known if metric.name != self.metric.name]

    def ranked(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """Returns the runs that have a score, best first; equal runs keep their order."""
        scores = [(run, self.score(run)) for run in runs]
        found = [(run, value) for run, value in scores if value is not None]
        return [run for run, _ in sorted(found, key=lambda pair: -self.metric.sign * pair[1])]


def objective_of(runs: Sequence[RunSummary]) -> tuple[Objective, list[str]]:
    """Returns the objective that the runs share; if they share none, accuracy and a note.

    The split is `test` if all runs that ended well have read it; trials never read it.
    """
    done = [run for run in runs if "value" in run.metrics]
    monitored = sorted({_monitored(run) for run in done})
    metric = (find_metric(monitored[0]) if len(monitored) == 1 else None) or METRICS["accuracy"]
    if len(monitored) == 1 and done and all(run.is_own_task for run in done):
        return _of_own_task(monitored[0], done[0]), []
    split: Split = "test" if done and all(f"test/{metric.name}" in run.metrics for run in done) else "val"
    names, notes = ", ".join(monitored), []
    if len(monitored) > 1:
        notes = [f"the runs monitor different metrics ({names}): they are compared by accuracy"]
    elif monitored and find_metric(names) is None:
        notes = [f"only the runs' own code can compute {names}: they are compared by accuracy"]
    return Objective(metric, split), notes


def _of_own_task(name: str, run: RunSummary) -> Objective:
    known = find_metric(name)
    said: Direction = "minimize" if run.params.get("trainer.monitor_mode") == "min" else "maximize"
    direction = known.direction if known is not None else said
    return Objective(Metric(name=name, title=name, direction=direction, compute=_unknown), "val", of_own_task=True)


def _unknown(answers: Answers) -> NoReturn:
    raise NotImplementedError("only the user's module computes it")


def _monitored(run: RunSummary) -> str:
    return run.params.get("trainer.monitor", _DEFAULT)
