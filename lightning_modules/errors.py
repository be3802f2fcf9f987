"""Errors that a user can fix, and the remedy for an unknown name.

Each package's own `errors.py` holds the errors that only this package raises. The command line prints such an error in
one line and exits with its `exit_code`. Any other exception is a bug and is printed with its traceback.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from lightning_modules.showable import PROSE, showable

_GOT = 300  # characters of a wrong value in a message


class WorkbenchError(Exception):
    """An error message with its remedy. `field` is the config path or the command-line name of the wrong value."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "", field: str | None = None, value: object = None) -> None:
        super().__init__(message, remedy, field, value)
        self.message, self.remedy, self.field, self.value = message, remedy, field, value

    def __str__(self) -> str:
        where = "" if self.field is None else f"{self.field}: "
        return showable(where + "; ".join(filter(None, [self.message, self.remedy])), PROSE)


class InputError(WorkbenchError, ValueError):
    """A value given by the user cannot be used. `remedy` says what to write instead."""

    exit_code = 2

    def __init__(self, field: str, value: object, message: str, remedy: str) -> None:
        super().__init__(message, remedy, field, value)

    def __reduce__(self) -> tuple[type["InputError"], tuple[object, ...]]:
        return type(self), (self.field, self.value, self.message, self.remedy)

    def __str__(self) -> str:
        field, got = showable(str(self.field)), showable(repr(self.value), _GOT)
        return showable(f"{field}: {showable(self.message, PROSE)} (got {got}); {self.remedy}", 3 * PROSE)


@contextmanager
def reading(field: str, value: object, what: str, remedy: str) -> Iterator[None]:
    """Makes any error in the block an InputError: the block only reads a file of the user's, so the file is bad input.

    `what`: what the file cannot be read as. Errors that say what to do are raised as they are.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:  # decoders and parsers raise all kinds of errors on damaged files
        raise InputError(field, value, f"cannot be read as {what}: {_reason(error)}", remedy) from error


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case MemoryError():
            return "it needs more memory than there is"
        case OSError(strerror=str(words)):
            return words
    return showable(" ".join(str(error).split()) or type(error).__name__)


# What other libraries call it: the last part of a name → the last part of ours.
_ALSO_CALLED = {
    **{"gpu": "cuda", "gpus": "accelerator", "device": "accelerator", "devices": "accelerator"},
    **{"learning_rate": "lr", "epochs": "max_epochs"},
}


def choose_from(word: object, choices: Iterable[str]) -> str:
    """Returns the remedy for an unknown name: the nearest choice, then all choices."""
    names = sorted(choices)
    return f"{did_you_mean(str(word), names)}choose from {', '.join(names)}"


def did_you_mean(word: str, names: Collection[str]) -> str:
    """Returns the question whether the nearest name was meant, with a space; nothing if no name is near."""
    section, _, last = word.rpartition(".")
    inside = [name for name in names if section and name.rpartition(".")[0] == section]
    # In a section that exists, only its own names are near: a long section would make any two of them look alike.
    elsewhere = [name for name in names if name.rpartition(".")[2] in (last, _ALSO_CALLED.get(last))]
    near = _near(last, inside) or elsewhere
    if not near and not inside:
        near = get_close_matches(word, names, n=1) or _near(last, names)
    return f"did you mean {near[0]!r}? " if near else ""


def _near(last: str, names: Collection[str]) -> list[str]:
    """Returns the names whose last part is near, the nearest first."""
    by_last = {name.rpartition(".")[2]: name for name in names}
    close = get_close_matches(last, by_last, n=1)
    called = [name for name in by_last if name == _ALSO_CALLED.get(last) or last in name.split("_")]
    return [by_last[name] for name in [*called[:1], *close]]
