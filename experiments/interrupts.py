"""Ctrl-C and SIGTERM as one exception that Lightning passes on.

Lightning answers KeyboardInterrupt with `sys.exit(1)` and leaves SIGINT ignored; a BaseException of our own reaches us.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user, or the system, asked the process to stop."""


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signal.Signals(signum).name)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise Interrupted (in the main thread; elsewhere nothing changes)."""
    with _handling(_interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM wait: for the few lines that must end once begun."""
    held: list[int] = []
    with _handling(lambda signum, _: held.append(signum)):
        yield
    if held:
        signal.raise_signal(held[0])


@contextmanager
def _handling(handler: "signal._HANDLER") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in _SIGNALS}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
