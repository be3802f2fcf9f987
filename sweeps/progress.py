"""Shows a sweep's progress on standard error: a bar with the best score on a terminal, elsewhere one line per trial."""

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_modules.log import LOG
from sweeps.config import Sweep
from sweeps.strategy.space import describe
from sweeps.study.stage import Stage, best_trials, counted


class SweepProgress:
    """Shows each trial that `sweeps.run` reports. Use it as a context manager: leaving the block removes the bar."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (
                MofNCompleteColumn(),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=self._console, refresh_per_second=1)
            self._task = self._bar.add_task("starting", total=sweep.config.budget.target)

    def __enter__(self) -> "SweepProgress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def started(self, stage: Stage, number: int) -> None:
        if self._bar is not None:
            self._show(stage, f"{_name(stage, stage.trials()[number])} is running")

    def ended(self, stage: Stage, number: int) -> None:
        trial = stage.trials()[number]
        outcome = trial.user_attrs["outcome"]
        value = f"{self._sweep.config.objective.metric} {trial.value:.4f}" if outcome == "finished" else outcome
        line = f"{_name(stage, trial)}: {value}  {describe(trial.params)}  {trial.user_attrs.get('error', '')}"
        if self._bar is not None:
            self._bar.console.print(line.rstrip(), highlight=False, markup=False)
            self._show(stage, "")
        else:
            target = stage.target
            done = f"{len(counted(stage.study))}/{target}" if target else f"{len(counted(stage.study))}"
            LOG.info(f"{done}  {line.rstrip()}  ({self._best(stage)})")

    def _show(self, stage: Stage, text: str) -> None:
        assert self._bar is not None
        description = f"{self._best(stage)}  {text}"
        self._bar.update(self._task, total=stage.target, completed=len(counted(stage.study)), description=description)

    def _best(self, stage: Stage) -> str:
        best = best_trials(stage.study)
        return f"best {best[0].value:.4f} in {_name(stage, best[0])}" if best else "no trial completed yet"


def _name(stage: Stage, trial: FrozenTrial) -> str:
    return f"{stage.kind} {trial.number}"
