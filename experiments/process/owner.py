"""Identifies the process that owns a run. A run marked RUNNING whose owner is dead can then be detected."""

import os
import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Owner:
    """A process on a host. The start time distinguishes it from a later process with the same id."""

    host: str
    pid: int
    started: float  # seconds since 1970

    @classmethod
    def current(cls) -> "Owner":
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Reads the text that `str(owner)` writes; returns None for any other text."""
        host, _, rest = text.rpartition("/")
        pid, _, started = rest.partition("@")
        try:
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}@{self.started:.2f}"

    def is_gone(self) -> bool:
        """Whether the process has certainly ended. Always false for a process on another host."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 2.0
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
