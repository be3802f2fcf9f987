"""Values that are computed once on a machine and kept in the user's cache folder, such as hashes of files."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lightning_modules.images.files import file_sha256

FOLDER = "remembered"  # in the cache folder; earlier versions kept values without a check in `hashes`


def known_sha256(path: Path) -> str:
    """Returns a file's SHA-256; from the cache if the file's inode, size and times are those of an earlier call."""
    return remembered(f"file {identity(path)}", lambda: file_sha256(path))


def identity(path: Path | str) -> str:
    """Returns what changes if a file is replaced or written to: its inode, its size, and the times of changes.

    The time of the last change of the inode cannot be set by a program, unlike that of the contents (inode(7)).
    """
    found = os.stat(path)  # noqa: PTH116 (of tens of thousands of files)
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def remembered(key: str, compute: Callable[[], str]) -> str:
    """Returns the value that an earlier call with this key computed on this machine; otherwise computes and keeps it.

    A kept value that was damaged is computed again. Without a cache folder that can be written, it is computed every
    time.
    """
    kept = cache_folder() / FOLDER / _sha256(key)
    with suppress(OSError, UnicodeDecodeError):
        digest, _, value = kept.read_bytes().decode().partition("\n")
        if digest == _sha256(value):
            return value
    value = compute()
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}")
        new.write_bytes(f"{_sha256(value)}\n{value}".encode())
        new.replace(kept)
    return value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Returns the user's cache folder of the workbench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "lightning-workbench"
