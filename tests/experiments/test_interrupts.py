"""SIGINT and SIGTERM as one exception."""

import signal

import pytest

from experiments.interrupts import Interrupted, interruptible, uninterrupted


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts(signum: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=signum.name), interruptible():
        signal.raise_signal(signum)


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
