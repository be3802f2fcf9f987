"""Which process a run belongs to, so that a run left RUNNING by a dead process can be told from a live one."""

import os
import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Owner:
    """A process on a host; its start time tells it from a later process with the same id."""

    host: str
    pid: int
    started: float  # seconds since 1970

    @classmethod
    def current(cls) -> "Owner":
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """What `str(owner)` wrote; None where it is something else."""
        host, _, rest = text.rpartition("/")
        pid, _, started = rest.partition("@")
        try:
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}@{self.started:.2f}"

    def is_gone(self) -> bool:
        """True only where that is certain: on this host, and no such process lives."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 2.0
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
