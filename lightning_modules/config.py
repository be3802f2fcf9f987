"""Declares the sections of the configuration: frozen dataclasses whose fields state their bounds.

@section("optimizer.schedule")
class ScheduleConfig:
    gamma: Share = 0.1
    "Kind step: the factor of each drop."

A string below a field is its meaning, which `workbench fields` shows. pydantic checks types and bounds of every new
instance, from a recipe or from Python. It converts no values, except that a float field accepts a whole number.
`__post_init__` checks combinations of fields. Every error is an InputError.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from lightning_modules.errors import InputError, choose_from
from lightning_modules.plug import to_write

# For a value out of bounds, the error suggests the example. Without an example it suggests the field's default.
# Upper bounds are far above what anybody needs, and below what overflows or runs for ever.
Count = Annotated[int, Field(ge=1, le=10**9)]
Natural = Annotated[int, Field(ge=0, le=10**9)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Probability = Annotated[float, Field(ge=0, le=1, examples=[0.5])]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1, examples=[0.9])]

Config = TypeVar("Config")
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid", use_attribute_docstrings=True)
_BOUNDS = {"ge": "{:,} or more", "gt": "above {:,}", "le": "at most {:,}", "lt": "below {:,}"}
_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false", dict: "a mapping", NoneType: "null"}


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def section(path: str = "") -> Callable[[type[Config]], type[Config]]:
    """Makes a class the config section at the dotted path `path`. Without a path, the class is the whole config."""

    def declare(cls: type[Config]) -> type[Config]:
        declared: Any = dataclass(cls, frozen=True, kw_only=True, config=_STRICT)
        check = declared.__init__

        @wraps(check)
        def __init__(self: Config, **given: Any) -> None:
            try:
                check(self, **given)
                return
            except ValidationError as error:
                input_error = _input_error(cls, path and f"{path}.", given, error)
            raise input_error  # outside `except`, so that a traceback shows only this error

        declared.__init__ = __init__
        return cls

    return declare


def _input_error(cls: type[Any], prefix: str, given: Mapping[str, Any], error: ValidationError) -> Exception:
    """Returns the first error found by pydantic as an InputError, or the exception that `__post_init__` raised."""
    found = error.errors()[0]
    if isinstance(raised := found.get("ctx", {}).get("error"), Exception):
        return raised
    name, hints = str(found["loc"][0]), get_type_hints(cls, include_extras=True)
    field, value = prefix + name, given.get(name)
    if name not in hints:
        return InputError(field, value, "no such field", choose_from(field, (prefix + known for known in hints)))
    hint, takes = hints[name], describe(get_type_hints(cls)[name])
    if name not in given:
        return InputError(field, None, "is missing", f"give {takes}")
    if value is None:
        return InputError(field, None, "must not be null", f"give {takes}, or leave the field out")
    match found["type"]:
        case "literal_error":
            return InputError(field, value, "no such choice", choose_from(value, map(str, choices(hint))))
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            message = f"must be {describe(hint)}"
        case "finite_number":
            message = "must be finite"
        case _:
            if "text" in takes and (path := _path_of(value)) is not None:
                return InputError(field, value, "is an object, and a config holds text", to_write(path))
            return InputError(field, value, "has the wrong type", f"give {takes}")
    noted = [note for part in _parts(hint) for note in getattr(part, "__metadata__", ())]
    examples = [example for note in noted for example in getattr(note, "examples", None) or ()]
    example = examples[0] if examples else getattr(cls, name, None)  # the class has the field's default
    shown = example if isinstance(example, str) else f"{example:g}" if example is not None else None
    return InputError(field, value, message, "leave it out" if shown is None else f"try {shown}")


def _path_of(value: object) -> str | None:
    """Returns the dotted path of a class or function, or of one in a list; None for any other value."""
    given = next((item for item in (value if isinstance(value, list) else [value]) if callable(item)), None)
    return None if given is None else f"{given.__module__}.{getattr(given, '__qualname__', type(given).__qualname__)}"


def describe(hint: Any) -> str:
    """Describes the values that a field accepts: `an integer`, `one of sgd, adam`, `1 or more, or null`."""
    if len(parts := _parts(hint)) > 1:
        return ", or ".join(map(describe, parts))
    if metadata := getattr(hint, "__metadata__", ()):
        bounds = [bound for note in metadata for bound in getattr(note, "metadata", [note])]
        pairs = ((words, getattr(bound, kind, None)) for bound in bounds for kind, words in _BOUNDS.items())
        return " and ".join(words.format(limit) for words, limit in pairs if limit is not None)
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(map(str, args))
    return f"a list, each item {describe(args[0])}" if kind is list else _WORDS.get(kind, kind.__name__)


def describe_fully(hint: Any) -> str:
    """Like `describe`, but names the type of a number with bounds, too: `a number, above 0, or null`."""
    types = [f"{describe(part.__origin__)}, " if hasattr(part, "__metadata__") else "" for part in _parts(hint)]
    return ", or ".join(f"{named}{describe(part)}" for named, part in zip(types, _parts(hint), strict=True))


def choices(hint: Any) -> list[Any]:
    """Returns the values that a field accepts, if it accepts only some."""
    return [choice for part in _parts(hint) if get_origin(part) is Literal for choice in get_args(part)]


def meaning(section: type[Any], name: str) -> str:
    """Returns the string below a field, in one line."""
    return " ".join((section.__pydantic_fields__[name].description or "").split())


def _parts(hint: Any) -> tuple[Any, ...]:
    """Returns the member types of a union. Any other type is returned as the only item."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def check_alone(path: str, config: Any, field: str, beside: Collection[str] = ()) -> None:
    """Raises InputError if the section sets more than `field` and those `beside` it: the rest would have no effect."""
    defaults = type(config)()
    for name, value in vars(config).items():
        if name not in {field, *beside} and value != getattr(defaults, name, value):
            raise InputError(f"{path}.{name}", value, f"has no effect beside {path}.{field}", "leave it out")


def check_settings(path: str, config: Any, settings: Mapping[str, Collection[str]]) -> None:
    """Raises InputError for a setting that the config's kind does not have. `settings` lists the settings per kind."""
    for name in sorted(set().union(*settings.values()) - set(settings.get(config.kind, ()))):
        if (value := getattr(config, name)) is not None:
            takers = ", ".join(sorted(kind for kind, names in settings.items() if name in names))
            remedy = f"set it to null, or choose {path}.kind from {takers}"
            raise InputError(f"{path}.{name}", value, f"is not a setting of {config.kind}", remedy)
