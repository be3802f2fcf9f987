"""Copies a folder file by file and checks every copy by its SHA-256."""

import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lightning_modules.images.files import file_sha256


@dataclass(frozen=True, kw_only=True)
class CopiedFiles:
    """The number of copied files, their total size in bytes, and one hash over all names and file hashes."""

    files: int
    bytes: int
    sha256: str


def copy_files(source: Path, target: Path) -> CopiedFiles:
    """Copies every file that the target lacks. A file gets its final name only when its copy is complete.

    Raises OSError if a file cannot be read or written, or if the copy differs when it is read back.
    """
    combined, size = sha256(), 0
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        name = path.relative_to(source)
        digest = file_sha256(path)
        copy = target / name
        if not (copy.is_file() and file_sha256(copy) == digest):
            _copy(path, copy, digest)
        combined.update(f"{digest} {name.as_posix()}\n".encode())
        size += path.stat().st_size
    return CopiedFiles(files=len(files), bytes=size, sha256=combined.hexdigest())


def _copy(path: Path, copy: Path, digest: str) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = copy.with_name(f"{copy.name}.copying")
    shutil.copy2(path, new)
    if file_sha256(new) != digest:
        new.unlink()
        raise OSError(f"{copy} differs from {path}")
    new.replace(copy)
