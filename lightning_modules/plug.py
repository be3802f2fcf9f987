"""Parts from outside: a dotted path such as `my_file.Net` or `torch.nn.L1Loss`, with arguments, becomes an object.

The module is looked for beside the recipe, then in the working directory, then among the installed packages. Arguments
are checked against the signature before anything is called.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from importlib.machinery import PathFinder
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning_modules.errors import InputError, choose_from

Target = Callable[..., Any]

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_BY_POSITION = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
_BY_NAME = {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}
_recipe_folders: list[Path] = []  # the latest first


def search_folders(folders: Iterable[Path]) -> None:
    """Lets dotted paths start in these folders. The last one is searched first; earlier calls stay in force."""
    for folder in folders:
        with suppress(ValueError):
            _recipe_folders.remove(folder.resolve())
        _recipe_folders.insert(0, folder.resolve())


def searched_folders() -> list[Path]:
    """Returns the folders given to `search_folders`, in the order in which another process must give them to it."""
    return _recipe_folders[::-1]


@dataclass(frozen=True)
class Plug:
    """A part that a config names."""

    field: str
    path: str
    args: Mapping[str, Any]
    args_field: str
    name: str = ""  # what the config has in `field`, if that is not the path

    @property
    def shown(self) -> str:
        return self.name or self.path

    @classmethod
    def parse(cls, field: str, entry: object) -> "Plug":
        """Reads an item of a list: `my_file.Part` or `{kind: my_file.Part, args: {…}}`."""
        if isinstance(entry, str):
            return cls(field, entry, _NOTHING, f"{field}.args")
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str) and entry.keys() <= {"kind", "args"}:
            args = entry.get("args", {})
            if isinstance(args, dict):
                return cls(f"{field}.kind", entry["kind"], args, f"{field}.args")
        raise InputError(field, entry, "is not a part", "write my_file.Part, or {kind: my_file.Part, args: {…}}")

    @cached_property
    def target(self) -> Target:
        """The class or function at the path. Imports its module. Raises InputError if there is none."""
        found: Target = find(self.field, self.path)
        if not callable(found):
            raise InputError(self.field, self.path, "is neither a class nor a function", "name one that can be called")
        return found

    def check(self, offered: Collection[str] = (), inputs: int = 0) -> None:
        """Raises InputError if the part does not exist, takes none of the arguments, or needs more than it gets.

        `offered`: the arguments that it also gets if its signature names them. `inputs`: how many arguments a function
        gets by position when it is used; an instance of a class gets them in its `__call__`.
        """
        target = self.target
        known = _parameters(target)
        if known is None:
            return
        by_position = [] if inspect.isclass(target) else [each.name for each in known if each.kind in _BY_POSITION]
        filled = {*self.args, *offered, *by_position[:inputs]}
        settable = [each.name for each in known if each.kind in _BY_NAME and each.name not in by_position[:inputs]]
        if not takes_any(target):
            for name, value in self.args.items():
                if name not in settable:
                    remedy = choose_from(name, [each for each in settable if each not in offered])
                    raise InputError(f"{self.args_field}.{name}", value, f"{self.shown} has no such argument", remedy)
        for name in needed(target):
            if name not in filled:
                remedy = f"give {self.args_field}.{name}"
                raise InputError(f"{self.args_field}.{name}", None, f"is missing: {self.shown} needs it", remedy)

    def make(self, offered: Mapping[str, Any] = _NOTHING) -> Any:
        """Calls the part with its arguments, and with those of `offered` that its signature names."""
        self.check(offered)
        try:
            return self.target(**self.arguments(offered))
        except InputError:
            raise
        except Exception as error:  # the user's code may raise any exception
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            remedy = f"change {self.args_field}, or the code of {self.shown}"
            raise InputError(self.field, self.shown, f"cannot be made: {reason}", remedy) from error

    def function(self, offered: Mapping[str, Any] = _NOTHING) -> Target:
        """Returns a function: an instance of the class at the path, or the function there with its arguments bound."""
        target = self.target
        if inspect.isclass(target):
            made: Target = self.make(offered)
            return made
        return partial(target, **self.arguments(offered))

    def arguments(self, offered: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
        """Returns the arguments of the call: its own, and those of `offered` that the signature names."""
        names = {each.name for each in _parameters(self.target) or () if each.kind in _BY_NAME}
        return {name: value for name, value in offered.items() if name in names} | dict(self.args)


def takes_any(target: Target) -> bool:
    """Returns whether the signature has `**kwargs`."""
    return any(each.kind is Parameter.VAR_KEYWORD for each in _parameters(target) or ())


def needed(target: Target) -> list[str]:
    """Returns the names of the arguments without a default, in order."""
    known = _parameters(target) or ()
    return [each.name for each in known if each.kind in _BY_NAME and each.default is Parameter.empty]


def find(field: str, path: str) -> Any:
    """Returns what a dotted path names: something in a module, or in a class of it. Imports the module.

    Raises InputError for the config's `field` if there is no such thing, or if the module fails to import.
    """
    module, *names = path.split(".")
    if not names or not all(name.isidentifier() for name in (module, *names)):
        raise InputError(field, path, "is not a dotted path", "write one such as my_file.MyPart")
    if module == "__main__":
        raise InputError(field, path, "is in the script or notebook itself, which no run can record", to_write(path))
    if any(name.startswith("__") for name in (module, *names)):  # the import of a package's __main__ runs it
        raise InputError(field, path, "has a name that begins with __", "name a class or a function")
    if module in sys.stdlib_module_names:
        raise InputError(field, path, "is part of Python's own library", "name a part of a file or of a package")
    found: Any = _import(field, path, module)
    for name in names:
        if not hasattr(found, name) and _has_submodule(found, name):
            _import(field, path, f"{found.__name__}.{name}")
        if not hasattr(found, name):
            close = get_close_matches(name, dir(found), 1)
            remedy = f"did you mean {close[0]!r}?" if close else "check the dotted path"
            raise InputError(field, path, f"{getattr(found, '__name__', module)} has no {name!r}", remedy)
        found = getattr(found, name)
    return found


def to_write(path: str) -> str:
    """Returns what to write in a config for the class or function at `path`, if this was not a text of the config."""
    module, _, name = path.partition(".")
    return (
        f"move it to a file, such as my_file.py, and write my_file.{name}" if module == "__main__" else f"write {path}"
    )


def _has_submodule(found: Any, name: str) -> bool:
    return hasattr(found, "__path__") and PathFinder.find_spec(f"{found.__name__}.{name}", found.__path__) is not None


def _import(field: str, path: str, module: str) -> Any:
    own = _own_file(module)
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if own is not None and loaded is not None and not _are_same(own[1], Path(loaded)):
        message = f"{loaded} has the same name and is imported already"
        raise InputError(field, path, message, f"rename {own[1]}, or start a new process")
    before = sys.path.copy()
    try:
        if own is not None:
            sys.path.insert(0, str(own[0]))
        return importlib.import_module(module)
    except Exception as error:  # the import runs the user's code, which may raise any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = "the recipe's folder, the working directory and the installed packages are searched"
        raise InputError(field, path, f"cannot be imported: {reason}", remedy) from error
    finally:
        sys.path[:] = before
        if own is not None and str(own[0]) not in sys.path:
            sys.path.append(str(own[0]))  # for what the module imports later


def _own_file(module: str) -> tuple[Path, Path] | None:
    """Returns the folder of a recipe, or the working directory, and the file of a top-level module there."""
    for folder in (*_recipe_folders, Path.cwd()):
        spec = PathFinder.find_spec(module, [str(folder)])
        if spec is not None and spec.origin is not None:
            return folder, Path(spec.origin)
    return None


def _are_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (other.is_file() and one.read_bytes() == other.read_bytes())


def _parameters(target: Target) -> list[Parameter] | None:
    """Returns the parameters of a callable; None if it does not tell, as some that are written in C."""
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
