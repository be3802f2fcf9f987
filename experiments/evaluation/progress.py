"""Shows how far an evaluation is: a bar on a terminal, elsewhere a line at each quarter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from experiments.process.progress import progress_bar
from lightning_modules.log import LOG

Showing = Callable[[int], Callable[[], object]]


@contextmanager
def progress() -> Iterator[Showing]:
    """Yields a function that takes the number of steps and returns what to call after each step."""
    bar = progress_bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())

    def begin(steps: int) -> Callable[[], object]:
        if bar is not None:
            bar.start()
            task = bar.add_task("evaluating", total=steps)
            return lambda: bar.advance(task)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            if done * 4 // steps > (done - 1) * 4 // steps:
                LOG.info(f"evaluated {100 * done // steps} %")

        return step

    try:
        yield begin
    finally:
        if bar is not None:
            bar.stop()
