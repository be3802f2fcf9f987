"""SIGINT and SIGTERM as one exception."""

import signal
import sys
import threading

import pytest

from experiments.errors import Interrupted
from experiments.process.interrupts import interruptible, uninterrupted


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=signum.name), interruptible():
        signal.raise_signal(signum)


class SignalledAtItsEnd:
    """While it is destroyed, where Python drops every exception, a signal arrives."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_arrives_within_a_destructor_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    def wait() -> None:
        with interruptible():
            SignalledAtItsEnd()
            threading.Event().wait(60)

    with pytest.raises(Interrupted, match="SIGTERM"):
        wait()
    assert capfd.readouterr().err == ""


def test_another_exception_of_a_destructor_is_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: reported.append(dropped.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise ValueError

    with interruptible():
        Broken()
    Broken()
    assert reported == [ValueError, ValueError]


def test_a_signal_within_uninterrupted_waits_for_its_end() -> None:
    done = []

    def must_end() -> None:
        with interruptible(), uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("its last line")

    with pytest.raises(Interrupted):
        must_end()
    assert done == ["its last line"]


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interruptible(), uninterrupted():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
