"""Turns a YAML recipe and dotted overrides into a typed, checked configuration."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from experiments.bounded_yaml import BadYaml, read_yaml, read_yaml_file
from lightning_modules.checked_path import checked_path
from lightning_modules.errors import InputError, choose_from, did_you_mean, reading

Config = TypeVar("Config")
Tree = dict[str, Any]

_DEPTH = 50  # parts of a dotted path

recipes_read: set[Path] = set()  # by this process; their content is in the records of its runs


def find_recipe(name: str, folder: Path) -> Path:
    """Returns the file of a recipe, given by its path or by its bare name in `folder`."""
    if checked_path("RECIPE", name).is_file():
        return Path(name)
    if (built_in := folder / f"{name}.yaml").is_file():
        return built_in
    names = [path.stem for path in folder.glob("*.yaml")]
    raise InputError("RECIPE", name, "no such recipe", f"{choose_from(name, names)}, or give the path of a YAML file")


def read_recipe(path: Path) -> Tree:
    """Returns the recipe's fields as they are written."""
    recipes_read.add(path.absolute())
    with reading("RECIPE", str(path), "YAML", "fix the file"):
        tree = read_yaml_file(path)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError("RECIPE", str(path), "is not a mapping of fields", "write lines such as `seed: 0`")
    return tree


def parse_overrides(words: Sequence[str]) -> Tree:
    """Turns `--optimizer.lr 0.01 --seed=3` into {"optimizer.lr": 0.01, "seed": 3}. Values are read as YAML."""
    overrides: Tree = {}
    rest = list(words)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or flag == "--":
            raise InputError("command line", flag, "is not understood", "write overrides as --FIELD.PATH VALUE")
        path, equals, value = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise InputError(path, None, "has no value", f"write --{path} VALUE")
            value = rest.pop(0)
        try:
            overrides[path] = read_yaml(value)
        except BadYaml as error:
            raise InputError(path, value, f"is not a YAML value: {error}", "quote it") from error
    return overrides


def with_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> Tree:
    """Returns a copy of `tree` in which each dotted path has its new value."""
    result: Tree = {key: with_overrides(value, {}) if isinstance(value, dict) else value for key, value in tree.items()}
    for path, value in overrides.items():
        *parents, last = path.split(".")
        if len(parents) > _DEPTH:
            raise InputError(path, value, "no such field", "to list the fields: workbench fields")
        node = result
        for parent in parents:
            below = node.get(parent)
            if not isinstance(below, dict):
                below = node[parent] = {}
            node = below
        node[last] = value
    return result


def build(cls: type[Config], tree: Mapping[str, Any]) -> Config:
    """Returns an instance of the dataclass `cls`, which checks its fields. InputError names the first wrong field."""
    return cls(**_with_sections(cls, tree, "", cls))


def _with_sections(cls: type[Any], tree: Mapping[str, Any], prefix: str, root: type[Any]) -> Tree:
    """Returns the fields of `cls` from `tree`, with each section as an instance of its dataclass."""
    types, values = {field.name: field.type for field in dataclasses.fields(cls)}, {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if name not in types:
            raise unknown_field(root, path, value)
        section = types[name]
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            if not isinstance(value, dict):
                below = f"{path}.{dataclasses.fields(section)[0].name}"
                raise InputError(path, value, "is a section, not a value", f"set its fields, for example {below}")
            value = section(**_with_sections(section, value, f"{path}.", root))
        values[name] = value
    return values


def unknown_field(root: type[Any], path: str, value: object) -> InputError:
    """Returns the error for a dotted path that leads to no field. `root.REFUSED` says why some are missing."""
    refused = getattr(root, "REFUSED", {})
    if path in refused:
        return InputError(path, value, "cannot be set", refused[path])
    return InputError(path, value, "no such field", which_field(path, (known for known, _ in field_paths(root))))


def field_paths(cls: type[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted path and the type of every field of a dataclass and of the dataclasses in it."""
    for path, owner, field in declared_fields(cls, prefix):
        yield path, get_type_hints(owner)[field.name]


def declared_fields(cls: type[Any], prefix: str = "") -> Iterator[tuple[str, type[Any], dataclasses.Field[Any]]]:
    """Yields the dotted path of every field, the dataclass that declares it, and the field as it is declared there."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        yield prefix + field.name, cls, field
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield from declared_fields(hint, f"{prefix}{field.name}.")


def which_field(path: str, known: Iterable[str]) -> str:
    """Returns the remedy for an unknown field: the nearest one, and how to list all."""
    return f"{did_you_mean(path, list(known))}to list the fields: workbench fields"
