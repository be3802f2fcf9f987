"""How far a sweep is: a bar with the best so far on a terminal, one plain line a trial elsewhere; on standard error."""

import sys

import optuna
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sweeps.config import Sweep
from sweeps.finalists import best_trials
from sweeps.space import describe
from sweeps.study import counted


class SweepProgress:
    """Told of every trial by `sweeps.run`; a context manager, so that the bar is always taken down."""

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

    def started(self, study: optuna.Study, number: int) -> None:
        if self._bar is not None:
            params = study.get_trials(deepcopy=False)[number].params
            self._show(study, f"trial {number}: {describe(params)}")

    def ended(self, study: optuna.Study, number: int) -> None:
        trial = study.get_trials(deepcopy=False)[number]
        outcome = trial.user_attrs["outcome"]
        value = f"{self._sweep.config.objective.metric} {trial.value:.4f}" if outcome == "finished" else outcome
        line = f"trial {trial.number}: {value}  {describe(trial.params)}  {trial.user_attrs.get('error', '')}".rstrip()
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            target = self._sweep.config.budget.target
            done = f"{len(counted(study))}/{target}" if target else f"{len(counted(study))}"
            print(f"{done}  {line}  ({self._best(study)})", file=sys.stderr)

    def searched(self, study: optuna.Study) -> None:
        finalists = self._sweep.config.finalists
        text = f"finalists: the top {finalists.top} over {finalists.seeds} seed(s)"
        if self._bar is not None:
            self._show(study, text)
        else:
            print(text, file=sys.stderr)

    def _show(self, study: optuna.Study, text: str) -> None:
        assert self._bar is not None
        self._bar.update(self._task, completed=len(counted(study)), description=f"{self._best(study)}  {text}")

    def _best(self, study: optuna.Study) -> str:
        best = best_trials(study)
        return f"best {best[0].value:.4f} in trial {best[0].number}" if best else "none complete yet"
