"""Identifies a process, such as the one that owns a run, by facts that no clock and no name can change."""

import os
import re
import secrets
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TEXT = re.compile(r"(.*)/(\d+)@(\d+(?:\.\d+)?)(?:/([^/@]+)/([^/@]+)/([0-9a-f]+))?")


@dataclass(frozen=True)
class Owner:
    """A process on a host. Its boot, its pid namespace and when it started tell it from all others of its id."""

    host: str  # for people; it proves nothing, because two containers may have one name
    pid: int
    started: float  # clock ticks since the boot; without /proc, and in an earlier version's text: seconds since 1970
    boot: str = ""  # the id of this boot of the kernel; empty in an earlier version's text
    namespace: str = ""  # of process ids
    key: str = ""  # names its file in `presence.py`

    @classmethod
    def current(cls) -> "Owner":
        return _current()

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Reads the text that `str(owner)` writes, here or in an earlier version; returns None for any other text."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        host, pid, started, *more = found.groups(default="")
        return cls(host, int(pid), float(started), *more)

    def __str__(self) -> str:
        if not self.boot:
            return f"{self.host}/{self.pid}@{self.started:.2f}"
        return f"{self.host}/{self.pid}@{self.started:.0f}/{self.boot}/{self.namespace}/{self.key}"

    @property
    def shown(self) -> str:
        return f"process {self.pid} on {self.host}"

    def fate(self) -> Literal["lives", "gone", "unknown"]:
        """What the table of processes says: nothing about a process of another host, boot or container."""
        here = _current()
        if not self.boot:
            return "unknown" if self.host != here.host else "lives" if _may_live(self.pid) else "gone"
        if (self.boot, self.namespace) != (here.boot, here.namespace):
            return "unknown"
        return "lives" if _started(self.pid) == self.started else "gone"


@cache
def _current() -> Owner:
    pid = os.getpid()
    started = _started(pid)
    assert started is not None
    return Owner(socket.gethostname(), pid, started, _boot(), _namespace(), secrets.token_hex(8))


os.register_at_fork(after_in_child=_current.cache_clear)


def _boot() -> str:
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    return re.sub(r"[/@]", "-", socket.gethostname())  # only Linux has containers, which may share a name


def _namespace() -> str:
    try:
        return re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return "0"


def _started(pid: int) -> float | None:
    """Returns when the process started; None if there is none, or only its exit status is left.

    psutil's start times are of no use on Linux: they follow the steps of the system's clock.
    """
    try:
        if not _BOOT_ID.exists():
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, psutil.NoSuchProcess):
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def _may_live(pid: int) -> bool:
    """Whether there is a process of this id that may run Python: only that is certain of an earlier version's text."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("python" in part for part in process.cmdline()[:2])
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
