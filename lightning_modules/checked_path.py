"""Paths that a config names."""

from pathlib import Path, PurePath

from lightning_modules.errors import InputError
from lightning_modules.showable import is_text

_LONGEST, _LONGEST_NAME = 4095, 255  # bytes, on Linux


def checked_path(field: str, text: str) -> Path:
    """Returns the path. Raises InputError if no file can have it, or if no record can hold it.

    Python itself would raise other errors, wherever it looks for such a file.
    """
    if not is_text(text):
        message = "is no path that a record can hold: it has NUL or half of a surrogate pair"
        raise InputError(field, text, message, "rename the file or folder")
    names = [name.encode() for name in PurePath(text).parts]
    if len(text.encode()) > _LONGEST or max(map(len, names), default=0) > _LONGEST_NAME:
        message = f"is longer than any path: more than {_LONGEST:,} bytes, or {_LONGEST_NAME} in one name"
        raise InputError(field, text, message, "correct it")
    return Path(text)
