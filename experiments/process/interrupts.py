"""Turns Ctrl-C and SIGTERM into one exception, `Interrupted`, which Lightning passes on.

Lightning answers KeyboardInterrupt with `sys.exit(1)` and then ignores SIGINT. It does not catch our own BaseException.
"""

import signal
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from experiments.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DELAY = 0.01  # seconds until a dropped signal is sent again


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signal.Signals(signum).name)


def _raise_later(report: "Callable[[sys.UnraisableHookArgs], object]", dropped: "sys.UnraisableHookArgs") -> None:
    """Sends the signal again: Python drops exceptions raised in a destructor or in a weak reference's callback."""
    if isinstance(dropped.exc_value, Interrupted):
        start_new_thread(_signal_later, (threading.get_ident(), signal.Signals[str(dropped.exc_value)]))
    else:
        report(dropped)


def _signal_later(thread: int, signum: signal.Signals) -> None:
    time.sleep(_DELAY)
    signal.pthread_kill(thread, signum)


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT and SIGTERM raise Interrupted inside the block. Has an effect only in the main thread."""
    with _signal_handler(_interrupt):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delays SIGINT and SIGTERM until the block ends. For a few lines that must not stop half-way."""
    received: list[int] = []
    with _signal_handler(lambda signum, _: received.append(signum)):
        yield
    if received:
        signal.raise_signal(received[0])


@contextmanager
def _signal_handler(handler: "signal._HANDLER") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in _SIGNALS}
    report = sys.unraisablehook
    sys.unraisablehook = partial(_raise_later, report)
    try:
        yield
    finally:
        sys.unraisablehook = report
        for signum, old in before.items():
            signal.signal(signum, old)
