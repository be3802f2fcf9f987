"""Which process a run belongs to, and what the table of processes says about it."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from experiments.process.owner import Owner

HERE = Owner.current()


def started(pid: int) -> float:
    """Reads when a process started, in clock ticks since the boot."""
    return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.parametrize(
    "owner", [HERE, replace(HERE, host="some.host/with-slash"), Owner("some.host/with-slash", 12, 1700000000.25)]
)
def test_text_of_an_owner_reads_back(owner: Owner) -> None:
    assert Owner.parse(str(owner)) == owner


@pytest.mark.parametrize("text", ["", "nonsense", "host/12", "host/12@x", "host/12@1/boot", "host/12@1/boot/2/not hex"])
def test_other_text_is_no_owner(text: str) -> None:
    assert Owner.parse(text) is None


def test_this_process_lives() -> None:
    assert HERE.fate() == "lives"


def test_an_earlier_process_of_the_same_id_is_gone() -> None:
    assert replace(HERE, started=HERE.started - 1).fate() == "gone"


def test_the_name_of_the_host_proves_nothing() -> None:
    assert replace(HERE, host="elsewhere").fate() == "lives"


@pytest.mark.parametrize("where", [{"boot": "another"}, {"namespace": "1"}])
def test_nothing_is_known_of_another_boot_or_container(where: dict[str, str]) -> None:
    assert replace(HERE, started=0.0, **where).fate() == "unknown"


def test_a_child_is_another_process() -> None:
    program = (
        "import os; from experiments.process.owner import Owner; print(Owner.current(), flush=True); "
        "os.fork() or print(Owner.current(), flush=True); os.wait() if os.fork() else None"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    parent, child = (Owner.parse(text) for text in found[:2])
    assert parent is not None
    assert child is not None
    assert (parent.pid, parent.key) != (child.pid, child.key)
    assert parent.boot == child.boot == HERE.boot


def test_a_process_that_ended_is_gone_even_before_its_parent_asks(poll: Callable[..., None]) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = replace(HERE, pid=process.pid, started=started(process.pid))
        assert owner.fate() == "lives"
        process.kill()
        poll(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert owner.fate() == "gone"
    assert owner.fate() == "gone"


# Texts of earlier versions, whose start time followed the clock.


def test_an_earlier_versions_process_lives_as_long_as_its_id_is_a_python_process() -> None:
    earlier = Owner(HERE.host, HERE.pid, psutil.Process().create_time() - 172_800)  # the clock was set two days ahead
    assert earlier.fate() == "lives"
    assert replace(earlier, pid=2**22 + 1).fate() == "gone"


def test_an_earlier_versions_process_on_another_host_is_not_known() -> None:
    assert Owner("elsewhere", 2**22 + 1, 0.5).fate() == "unknown"
