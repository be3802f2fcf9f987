"""All files of one folder copied into another, each checked by its SHA-256."""

import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lightning_modules.images.files import file_sha256


@dataclass(frozen=True, kw_only=True)
class CopiedFiles:
    """How many there are, their bytes, and one hash of all their names and hashes."""

    files: int
    bytes: int
    sha256: str


def copy_files(source: Path, target: Path) -> CopiedFiles:
    """Copies what the target has not, each file under another name first: one that is there is whole.

    Raises OSError where a file cannot be read or written, or is not the same when it is read again.
    """
    together, size = sha256(), 0
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        name = path.relative_to(source)
        digest = file_sha256(path)
        copy = target / name
        if not (copy.is_file() and file_sha256(copy) == digest):
            _copy(path, copy, digest)
        together.update(f"{digest} {name.as_posix()}\n".encode())
        size += path.stat().st_size
    return CopiedFiles(files=len(files), bytes=size, sha256=together.hexdigest())


def _copy(path: Path, copy: Path, digest: str) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    new = copy.with_name(f"{copy.name}.copying")
    shutil.copy2(path, new)
    if file_sha256(new) != digest:
        new.unlink()
        raise OSError(f"{copy} is not the same as {path}")
    new.replace(copy)
