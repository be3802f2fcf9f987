"""Values that are computed once on a machine and kept in the user's cache folder, such as hashes of files.

A key names all that determines the value. One part is the version of the code that computes it: raise it if the same
input would give another value.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lightning_modules.images.files import file_sha256

FOLDER = "remembered"  # in the cache folder; earlier versions kept values without a check in `hashes`
_SETTLED = 2.0  # seconds; the times of a file are this coarse on FAT, and of some milliseconds on other file systems


def known_sha256(path: Path) -> str:
    """Returns a file's SHA-256; from the cache if the file's inode, size and times are those of an earlier call."""
    found = identity(path)
    if found is None:
        return file_sha256(path)
    return remembered(f"SHA-256 of a file, version 1: {found}", lambda: file_sha256(path))


def identity(path: Path | str) -> str | None:
    """Returns what changes if a file is replaced or written to: its inode, its size, and the times of changes.

    The time of the last change of the inode cannot be set by a program, unlike that of the contents (inode(7)).
    Returns None if the file has just changed: its next change may give it the same times, as in git's "racy" index.
    """
    found = os.stat(path)  # noqa: PTH116 (of tens of thousands of files)
    if max(found.st_mtime, found.st_ctime) > time.time() - _SETTLED:
        return None
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
        new = kept.with_suffix(f".{secrets.token_hex(4)}")  # process ids repeat in containers that share the folder
        new.write_bytes(f"{_sha256(value)}\n{value}".encode())
        new.replace(kept)
    return value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Returns the user's cache folder of the workbench."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "lightning-workbench"
