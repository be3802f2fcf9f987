"""Locks and leases in a folder tell which processes are gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.process import presence
from experiments.process.owner import Owner
from experiments.process.presence import Lease, gone, is_held, leftovers, present

HERE = Owner.current()
ELSEWHERE = replace(HERE, boot="another-boot", key="ab12")  # a process of another host
CONTAINER = replace(HERE, namespace="17", key="cd34")  # a process of this kernel that cannot be seen from here


@contextmanager
def other_process(folder: Path, more: str = "input()") -> Iterator[tuple[Owner, subprocess.Popen[str]]]:
    """Starts a process that is present in the folder; yields its identity."""
    program = (
        "import os, sys; from pathlib import Path; from experiments.process.presence import present; "
        f"print(present(Path(sys.argv[1])), flush=True); {more}"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = Owner.parse(process.stdout.readline().strip())
        assert owner is not None
        try:
            yield owner, process
        finally:
            process.kill()


def lease(folder: Path, owner: Owner, uptime: float) -> Path:
    """Writes the file of a process that has not been here."""
    path = folder / "owners" / owner.key
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{uptime:015.3f} {owner}")
    return path


def test_a_living_process_holds_its_lock_and_removes_its_file_when_it_ends(tmp_path: Path) -> None:
    with other_process(tmp_path) as (owner, process):
        assert is_held(tmp_path, owner)
        assert gone([owner], tmp_path) == set()
        process.communicate("\n")
        assert gone([owner], tmp_path) == {owner}
    assert list((tmp_path / "owners").iterdir()) == []


def test_a_killed_process_is_gone_and_leaves_its_file(tmp_path: Path) -> None:
    with other_process(tmp_path) as (owner, process):
        process.kill()
        process.wait()
        assert gone([owner], tmp_path) == {owner}
        assert leftovers(tmp_path) == [tmp_path / "owners" / owner.key]


def test_a_stopped_process_lives(tmp_path: Path) -> None:
    with other_process(tmp_path) as (owner, process):
        process.send_signal(signal.SIGSTOP)
        assert gone([owner, replace(owner, namespace="17"), replace(owner, boot="other")], tmp_path) == set()
        process.send_signal(signal.SIGCONT)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path, poll: Callable[..., None]) -> None:
    fork = "child = os.fork(); child or (os.close(1), os.read(0, 1), os._exit(0)); print(child, flush=True); os.wait()"
    with other_process(tmp_path, fork) as (owner, process):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            poll(lambda: not is_held(tmp_path, owner))  # it may just have been forked
            os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    owner = present(folder)
    for path in (folder / "owners").iterdir():
        path.unlink()
    assert not is_held(folder, owner)
    present(folder)
    assert is_held(folder, owner)


# A process that cannot be seen from here: only its lock and its lease tell.


def test_a_lock_tells_more_than_an_old_lease(tmp_path: Path) -> None:
    with other_process(tmp_path) as (owner, _):
        (tmp_path / "owners" / owner.key).write_text(f"{0:015.3f} {owner}")
        os.utime(tmp_path / "owners" / owner.key, (0, 0))
        assert gone([replace(owner, boot="other"), replace(owner, namespace="17")], tmp_path) == set()


@pytest.mark.parametrize("owner", [ELSEWHERE, CONTAINER])
def test_a_process_that_stays_silent_is_gone(tmp_path: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "WATCH", 0.0)
    os.utime(lease(tmp_path, owner, 0.0), (0, 0))
    assert gone([owner], tmp_path) == {owner}


def test_a_lease_that_is_renewed_during_the_watch_proves_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "WATCH", 0.0)
    seen = [Lease("before", presence.SILENCE + 1), Lease("after", presence.SILENCE + 1)]  # the clock was set
    assert gone([ELSEWHERE], tmp_path, lambda _: seen.pop(0)) == set()


@pytest.mark.parametrize("set_by", [-172_800, -60, 60])
def test_the_lease_of_another_container_does_not_follow_the_clock(tmp_path: Path, set_by: float) -> None:
    path = lease(tmp_path, CONTAINER, presence._uptime() - 5)
    os.utime(path, (path.stat().st_mtime + set_by, path.stat().st_mtime + set_by))
    assert gone([CONTAINER], tmp_path) == set()


def test_a_fresh_lease_of_another_host_proves_life(tmp_path: Path) -> None:
    lease(tmp_path, ELSEWHERE, 1.0)
    assert gone([ELSEWHERE], tmp_path) == set()


def test_a_process_of_another_host_without_a_lease_has_removed_it(tmp_path: Path) -> None:
    assert gone([ELSEWHERE], tmp_path) == {ELSEWHERE}


def test_this_process_renews_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poll: Callable[..., None]
) -> None:
    monkeypatch.setattr(presence, "_renewing", None)
    monkeypatch.setattr(presence, "BEAT", 0.01)
    path = tmp_path / "owners" / present(tmp_path).key
    before = path.read_text()
    poll(lambda: path.read_text() != before)
    assert path.read_text().partition(" ")[2] == str(HERE)
