"""Says in a folder that this process lives, and finds out which other processes that work on it are gone.

Each process holds a lock on a file of its own, `owners/KEY`, which the system releases when the process ends. Some
shared folders accept locks without sharing them between hosts. So the process also renews its file, the lease, every
`BEAT` seconds. A process is gone if its lock is free and the table of processes says that it has ended. Where that
table cannot be seen, on another host, in another container or boot, it is gone once its lease is `SILENCE` seconds old
and `WATCH` more seconds have passed without a renewal. The watch makes a step of the clock harmless.
"""

import atexit
import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.process.owner import Owner
from lightning_modules.log import LOG

BEAT = 15.0  # seconds between two renewals of a lease
SILENCE = 75.0  # seconds: an older lease makes a process suspect
WATCH = 45.0  # seconds in which a process under suspicion may still renew its lease

_FOLDER = "owners"
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class Lease:
    """A sign of life. Each renewal has another text."""

    text: str
    age: float  # seconds, by one clock


Leases = Callable[[Owner], Lease | None]  # None: it left none behind


class _Held:
    """This process's file in one folder, open and locked."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / Owner.current().key
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with suppress(OSError):  # a folder without locks: then only the lease tells
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.renew()
        except BaseException:
            self.let_go()
            raise

    def renew(self) -> None:
        os.pwrite(self.file, f"{_uptime():015.3f} {Owner.current()}".encode(), 0)

    def is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.file), self.path.stat())
        except FileNotFoundError:
            return False

    def let_go(self) -> None:
        with suppress(OSError):
            self.path.unlink()
        os.close(self.file)


_held: dict[Path, _Held] = {}
_holding = threading.Lock()
_renewing: threading.Thread | None = None


def present(folder: Path) -> Owner:
    """Makes this process's presence in `folder` known until it ends. Returns its identity."""
    global _renewing
    folder = folder.absolute()
    with _holding:
        held = _held.get(folder)
        if held is not None and not held.is_in_place():  # the folder was removed, or moved
            os.close(held.file)
            held = None
        if held is None:
            _held[folder] = _Held(folder / _FOLDER)
        if _renewing is None or not _renewing.is_alive():
            _renewing = threading.Thread(target=_keep_renewing, name="presence", daemon=True)
            _renewing.start()
    return Owner.current()


def gone(owners: Collection[Owner], folder: Path, leases: Leases | None = None) -> set[Owner]:
    """Returns those of the owners that are certainly gone. May take `WATCH` seconds, if only their leases can tell.

    `leases`: where to find them, if not in `folder`.
    """
    leases = leases or (lambda owner: _lease(folder, owner))
    found, watched = set(), {}
    for owner in owners:
        fate = "lives" if is_held(folder, owner) else owner.fate()
        if fate == "gone":
            found.add(owner)
        elif fate == "unknown" and owner.boot:
            lease = leases(owner)
            if lease is None:
                found.add(owner)
            elif lease.age > SILENCE:
                watched[owner] = lease.text
    if watched:
        names = ", ".join(owner.shown for owner in watched)
        LOG.info(f"no sign of life of {names}: waiting {WATCH:.0f} s for one")
        time.sleep(WATCH)
        for owner, text in watched.items():
            lease = leases(owner)
            if not is_held(folder, owner) and (lease is None or lease.text == text):
                found.add(owner)
    return found


def is_held(folder: Path, owner: Owner) -> bool:
    """Whether a process holds the owner's lock."""
    if not owner.key:
        return False
    try:
        file = os.open(folder / _FOLDER / owner.key, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a folder without locks
        return False
    finally:
        os.close(file)
    return False


def leftovers(folder: Path) -> list[Path]:
    """Returns the files of processes that have ended without removing them, or were silent for a day."""
    found = []
    for path in sorted((folder / _FOLDER).glob("*")):
        owner = Owner.parse(_read(path).partition(" ")[2])
        if owner is not None and not is_held(folder, owner) and owner.fate() != "lives":
            lease = _lease(folder, owner)
            if owner.fate() == "gone" or (lease is not None and lease.age > _DAY):
                found.append(path)
    return found


def _lease(folder: Path, owner: Owner) -> Lease | None:
    """Returns the lease in the owner's file. Its age is by the uptime of this kernel, if both run on it.

    Else it is by the clock of the file system, which on a network is that of its server.
    """
    path = folder / _FOLDER / owner.key
    text = _read(path)
    if not text:
        return None
    if owner.boot == Owner.current().boot:
        return Lease(text, _uptime() - float(text.partition(" ")[0]))
    probe = path.with_name(f"{Owner.current().key}.now")
    try:
        changed = path.stat().st_mtime
        probe.touch()
        return Lease(text, probe.stat().st_mtime - changed)
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _uptime() -> float:
    """Returns the seconds since the boot, those of a suspended machine included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _keep_renewing() -> None:
    while True:
        time.sleep(BEAT)
        with _holding:
            for held in _held.values():
                with suppress(OSError):  # the disk may be full, or away for a while
                    held.renew()


def _let_go() -> None:
    """At the end of the process: removes its files."""
    for held in _held.values():
        held.let_go()
    _held.clear()


def _forget() -> None:
    """In a forked child: closes the files, because the lock would be held as long as any process has them open."""
    global _holding
    _holding = threading.Lock()  # another thread of the parent may have held it
    for held in _held.values():
        os.close(held.file)
    _held.clear()


atexit.register(_let_go)
os.register_at_fork(after_in_child=_forget)
