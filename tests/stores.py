"""Copies of stores, for tests that write into one."""

import subprocess
from pathlib import Path


def copy_store_folder(store: Path, to: Path) -> Path:
    """Copies a whole store; returns `to`.

    Another process copies: when this one closes a database's file, it loses its locks on it. SQLite in the next process
    then deletes the write-ahead log that this one still reads ("disk I/O error").
    Source: https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    subprocess.run(["cp", "-R", str(store), str(to)], check=True)
    return to
