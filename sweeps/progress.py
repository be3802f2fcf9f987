"""Shows a sweep's progress: a bar with the best score on a terminal or in a notebook, elsewhere one line per trial."""

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.trial import FrozenTrial
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from experiments.process.progress import NotebookProgress, progress_bar
from lightning_modules.log import LOG
from lightning_modules.showable import PROSE, showable
from sweeps.config import Sweep
from sweeps.strategy.space import describe
from sweeps.study.stage import Stage, best_trials, counted


class SweepProgress:
    """Shows each trial that `sweeps.run` reports. Use it as a context manager: leaving the block removes the bar."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        text = TextColumn("{task.description}", markup=False)
        self._bar = progress_bar(MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), text, refresh_per_second=1)
        if self._bar is not None:
            self._task = self._bar.add_task("starting", total=sweep.config.budget.target)

    def __enter__(self) -> "SweepProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def has_bar(self) -> bool:
        return self._bar is not None

    def started(self, stage: Stage, number: int) -> None:
        if self._bar is not None:
            self._show(stage, f"{_name(stage, stage.trials()[number])} is running")

    def ended(self, stage: Stage, number: int) -> None:
        trial = stage.trials()[number]
        outcome = trial.user_attrs["outcome"]
        value = f"{self._sweep.config.objective.metric} {trial.value:.4f}" if outcome == "finished" else outcome
        error = showable(trial.user_attrs.get("error", ""), PROSE)
        line = f"{_name(stage, trial)}: {value}  {describe(trial.params)}  {error}"
        if isinstance(self._bar, NotebookProgress):  # one element, whatever the number of trials
            self._show(stage, line.rstrip())
        elif self._bar is not None:
            self._bar.console.print(line.rstrip(), highlight=False, markup=False)
            self._show(stage, "")
        else:
            target = stage.target
            done = f"{len(counted(stage.study))}/{target}" if target else f"{len(counted(stage.study))}"
            LOG.info(f"{done}  {line.rstrip()}  ({self._best(stage)})")

    def _show(self, stage: Stage, text: str) -> None:
        assert self._bar is not None
        description = f"{self._best(stage)}  {text}"
        done = len(counted(stage.study))
        self._bar.update(self._task, total=stage.target, completed=done, description=description, refresh=True)

    def _best(self, stage: Stage) -> str:
        best = best_trials(stage.study)
        return f"best {best[0].value:.4f} in {_name(stage, best[0])}" if best else "no trial completed yet"


def _name(stage: Stage, trial: FrozenTrial) -> str:
    return f"{stage.kind} {trial.number}"


@contextmanager
def showing(sweep: Sweep, wanted: bool | None) -> Iterator[SweepProgress | None]:
    """Yields what shows the sweep's progress; with None only if there is a bar."""
    progress = SweepProgress(sweep)
    if wanted or (wanted is None and progress.has_bar):
        with progress:
            yield progress
    else:
        yield None
