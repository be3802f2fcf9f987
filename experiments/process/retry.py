"""Retries a call with growing pauses while a server or a database is unreachable."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lightning_modules.log import LOG

_LONGEST_PAUSE = 30.0  # seconds
_RETRIES = 14  # with these pauses, a server may be unreachable for five minutes

_Result = TypeVar("_Result")


def pauses() -> Iterator[float]:
    """Yields the pauses between attempts: 1, 2, 4, 8, 16, 30, 30, … seconds."""
    pause = 1.0
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def retry(
    do: Callable[[], _Result],
    reason: Callable[[Exception], str | None],
    waits: Iterable[float] | None = None,
) -> _Result:
    """Returns the result of `do`. Retries it after each pause in `waits` (seconds); the last attempt raises its error.

    `reason` maps an exception to the reason for trying again, which is logged, or to None, which raises the exception.
    """
    for pause in itertools.islice(pauses(), _RETRIES) if waits is None else waits:
        try:
            return do()
        except Exception as error:
            if (why := reason(error)) is None:
                raise
            LOG.warning(f"{why}; trying again in {pause:.0f} s")
        time.sleep(pause)
    return do()
