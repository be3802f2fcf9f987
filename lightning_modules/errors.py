"""Bad input, told in one line: the field, what is wrong with its value, and the way out."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args


class InputError(ValueError):
    """A value that a user gave and that cannot be used. The command line prints it and exits 2.

    `field` is the config path (`optimizer.lr`) or the command line's name for it; `remedy` says what to write instead.
    """

    exit_code = 2

    def __init__(self, field: str, value: object, message: str, remedy: str) -> None:
        super().__init__(f"{field}: {message} (got {value!r}); {remedy}")
        self.field, self.value, self.message, self.remedy = field, value, message, remedy


def check_choice(field: str, value: object, choices: Any) -> None:
    """Raises InputError unless `value` is one of the choices: strings, or a Literal type of them."""
    names = get_args(choices) or tuple(choices)
    if value not in names:
        raise InputError(field, value, "no such choice", choose_from(value, names))


def choose_from(word: object, choices: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest choice, then all of them."""
    names = sorted(choices)
    near = get_close_matches(str(word), names, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"choose from {', '.join(names)}"
