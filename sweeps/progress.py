"""Shows a sweep's progress: on a terminal or in a notebook a bar and the running trials, elsewhere a line per trial."""

import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from optuna.trial import FrozenTrial
from rich.columns import Columns
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from experiments.process.progress import NotebookProgress, progress_bar
from lightning_modules.log import LOG
from lightning_modules.showable import PROSE, showable
from sweeps.config import Sweep
from sweeps.strategy.budget import counts
from sweeps.strategy.space import describe
from sweeps.study.stage import Stage, running_trials

_WIDTH = 20  # characters of the bar, so that its line fits 80 columns
_GAP = 3  # characters between two running trials in a line, and before the rest of a line that is wrapped
_DRAWN_EVERY = 1.0  # seconds
_PATIENCE = 5.0  # seconds that the thread that draws has to end


class SweepProgress:
    """Shows each trial that `sweeps.run` reports. Use it as a context manager: leaving the block ends the bar."""

    def __init__(self, sweep: Sweep) -> None:
        self._metric = sweep.config.objective.metric
        self._workers = 1
        self._drawing = threading.Lock()
        self._last = ""  # what a notebook shows of the trial that ended last
        text = TextColumn("{task.description}", markup=False)
        columns = (MofNCompleteColumn(), BarColumn(_WIDTH), TimeElapsedColumn(), text)
        self._bar = progress_bar(*columns, refresh_per_second=1)
        if self._bar is not None:
            self._task = self._bar.add_task("starting", total=sweep.target)

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

    @contextmanager
    def following(self, stage: Stage, workers: int) -> Iterator[None]:
        """Draws the bar again every second, in a thread: it also shows what other processes report of their trials.

        `workers`: how many trials of the stage this command runs at a time.
        """
        self._workers = workers
        if self._bar is None:
            yield
            return
        is_over = threading.Event()
        thread = threading.Thread(target=self._draw_until, args=[is_over, stage], daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(_PATIENCE)
        self._draw_if_possible(stage)

    def _draw_until(self, is_over: threading.Event, stage: Stage) -> None:
        while not is_over.wait(_DRAWN_EVERY):
            self._draw_if_possible(stage)

    def _draw_if_possible(self, stage: Stage) -> None:
        with suppress(Exception):  # while the database cannot be reached, the bar stays as it is
            self._draw(stage)

    def started(self, stage: Stage, number: int) -> None:
        if self._bar is not None:
            self._draw(stage)

    def ended(self, stage: Stage, number: int) -> None:
        trials = stage.trials()
        line = self._line(stage, trials[number])
        if isinstance(self._bar, NotebookProgress):  # one element, whatever the number of trials
            self._last = line
            self._draw(stage)
        elif self._bar is not None:
            wrapper = textwrap.TextWrapper(self._bar.console.width, subsequent_indent=" " * _GAP)
            wrapper.break_long_words = wrapper.break_on_hyphens = False
            self._bar.console.print(Text(wrapper.fill(line)))
            self._draw(stage)
        else:
            done, target = sum(map(counts, trials)), stage.target
            told = "; ".join(filter(None, [stage.best_so_far(trials), self._time_left(stage, trials)]))
            LOG.info((f"{done}/{target}  " if target else f"{done}  ") + line + (f"  ({told})" if told else ""))

    def _line(self, stage: Stage, trial: FrozenTrial) -> str:
        """Says how a trial ended."""
        outcome = trial.user_attrs["outcome"]
        value = f"{self._metric} {trial.value:.4f}" if outcome == "finished" else outcome
        more = describe(trial.params) if stage.kind == "trial" else f"seed {trial.user_attrs['seed']}"
        error = showable(trial.user_attrs.get("error", ""), PROSE)
        return f"{stage.name_of(trial)}: {value}  {more}  {error}".rstrip()

    def _draw(self, stage: Stage) -> None:
        """Draws the bar, and below it the best value so far and all running trials with their epochs."""
        assert self._bar is not None
        with self._drawing:  # else an older state could be drawn over a newer one
            trials = stage.trials()
            running = [Text(f"{stage.name_of(trial)} {stage.epoch_of(trial)}") for trial in running_trials(trials)]
            texts = [Text(text) for text in (stage.best_so_far(trials), self._last) if text]
            self._bar.below = [*texts, Columns(running, padding=(0, _GAP))]
            done, time = sum(map(counts, trials)), ", ".join(filter(None, ["elapsed", self._time_left(stage, trials)]))
            self._bar.update(self._task, total=stage.target, completed=done, description=time, refresh=True)

    def _time_left(self, stage: Stage, trials: Sequence[FrozenTrial]) -> str:
        """Returns `about 0:12:00 left`; an empty text if that cannot be told."""
        at_a_time = max(self._workers, len(running_trials(trials)))  # another command may run trials, too
        left = stage.time_left(trials, at_a_time=at_a_time, now=datetime.now())
        minutes, seconds = divmod(round(left.total_seconds()) if left else 0, 60)
        return f"about {minutes // 60}:{minutes % 60:02}:{seconds:02} left" if minutes or seconds else ""


@contextmanager
def showing(sweep: Sweep, wanted: bool | None) -> Iterator[SweepProgress | None]:
    """Yields what shows the sweep's progress; with None only if there is a bar."""
    progress = SweepProgress(sweep)
    if wanted or (wanted is None and progress.has_bar):
        with progress:
            yield progress
    else:
        yield None
