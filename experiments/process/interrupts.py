"""Ctrl-C and SIGTERM as one exception that Lightning passes on.

Lightning answers KeyboardInterrupt with `sys.exit(1)` and leaves SIGINT ignored; a BaseException of our own reaches us.
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
_A_MOMENT = 0.01  # seconds


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signal.Signals(signum).name)


def _raise_later(report: "Callable[[sys.UnraisableHookArgs], object]", dropped: "sys.UnraisableHookArgs") -> None:
    """Python drops what is raised in a destructor or a weak reference's callback: there the signal comes again."""
    if isinstance(dropped.exc_value, Interrupted):
        start_new_thread(_signal_later, (threading.get_ident(), signal.Signals[str(dropped.exc_value)]))
    else:
        report(dropped)


def _signal_later(thread: int, signum: signal.Signals) -> None:
    time.sleep(_A_MOMENT)
    signal.pthread_kill(thread, signum)


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
    report = sys.unraisablehook
    sys.unraisablehook = partial(_raise_later, report)
    try:
        yield
    finally:
        sys.unraisablehook = report
        for signum, old in before.items():
            signal.signal(signum, old)
