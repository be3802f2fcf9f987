"""Trying again, after pauses that grow, what a server or database that is away kept from being done."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lightning_modules.log import LOG

_LONGEST = 30.0  # seconds between two tries
_TRIES = 14  # with these pauses, a server may be away for five minutes

_Result = TypeVar("_Result")


def pauses() -> Iterator[float]:
    """1, 2, 4, 8, 16, 30, 30, … seconds."""
    yield from (min(2.0**attempt, _LONGEST) for attempt in itertools.count())


def retry(
    do: Callable[[], _Result],
    reason: Callable[[Exception], str | None],
    waits: Iterable[float] | None = None,
) -> _Result:
    """What `do` gives. Where `reason` tells why it gives nothing yet, that is said and it is tried again.

    `waits`: the pauses between the tries, in seconds; after the last of them the error is raised.
    """
    for pause in itertools.islice(pauses(), _TRIES) if waits is None else waits:
        try:
            return do()
        except Exception as error:
            if (why := reason(error)) is None:
                raise
            LOG.warning(f"{why}; trying again in {pause:.0f} s")
        time.sleep(pause)
    return do()
