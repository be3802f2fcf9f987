"""Which process a run belongs to, and whether it is gone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import psutil

from experiments.process.owner import Owner


def test_text_of_an_owner_reads_back() -> None:
    owner = Owner("some.host/with-slash", 12, 1700000000.25)
    assert Owner.parse(str(owner)) == owner


def test_other_text_is_no_owner() -> None:
    assert Owner.parse("host/12") is None


def test_this_process_is_not_gone() -> None:
    assert not Owner.current().is_gone()


def test_an_earlier_process_of_the_same_id_is_gone() -> None:
    assert replace(Owner.current(), started=Owner.current().started - 60).is_gone()


def test_a_process_of_another_host_is_never_taken_for_gone() -> None:
    assert not replace(Owner.current(), host="elsewhere", started=0.0).is_gone()


def test_a_process_that_ended_is_gone_even_before_its_parent_asks(poll: Callable[..., None]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = replace(Owner.current(), pid=process.pid, started=psutil.Process(process.pid).create_time())
        assert not owner.is_gone()
        process.kill()
        poll(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert owner.is_gone()
    assert owner.is_gone()
