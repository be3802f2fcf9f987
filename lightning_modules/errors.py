"""Errors that a user can fix, and the remedy for an unknown name.

Each package's own `errors.py` holds the errors that only this package raises. The command line prints such an error in
one line and exits with its `exit_code`. Any other exception is a bug and is printed with its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class WorkbenchError(Exception):
    """An error message with its remedy. `field` is the config path or the command-line name of the wrong value."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "", field: str | None = None, value: object = None) -> None:
        super().__init__(message, remedy, field, value)
        self.message, self.remedy, self.field, self.value = message, remedy, field, value

    def __str__(self) -> str:
        where = "" if self.field is None else f"{self.field}: "
        return where + "; ".join(filter(None, [self.message, self.remedy]))


class InputError(WorkbenchError, ValueError):
    """A value given by the user cannot be used. `remedy` says what to write instead."""

    exit_code = 2

    def __init__(self, field: str, value: object, message: str, remedy: str) -> None:
        super().__init__(message, remedy, field, value)

    def __reduce__(self) -> tuple[type["InputError"], tuple[object, ...]]:
        return type(self), (self.field, self.value, self.message, self.remedy)

    def __str__(self) -> str:
        return f"{self.field}: {self.message} (got {self.value!r}); {self.remedy}"


def choose_from(word: object, choices: Iterable[str]) -> str:
    """Returns the remedy for an unknown name: the nearest choice, then all choices."""
    names = sorted(choices)
    near = get_close_matches(str(word), names, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"choose from {', '.join(names)}"
