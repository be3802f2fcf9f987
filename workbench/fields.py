"""`workbench fields`: lists what a recipe can set: every field, its type, default, choices and meaning."""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from workbench._command import Document, print_table, table
from workbench._layout import print_prose, screen_width

HELP = "list the fields that a recipe or a sweep recipe can set"
_WIDE = 120  # characters of a screen that has room for whole paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "only this field or section: trainer.monitor, optimizer"
    parser.add_argument("path", nargs="?", metavar="PATH", help=text)


def run(args: argparse.Namespace) -> Document:
    from experiments import ExperimentConfig
    from experiments.recipe import which_field
    from lightning_modules import InputError
    from sweeps import SweepConfig

    fields = [*_fields(ExperimentConfig, "experiment"), *_fields(SweepConfig, "sweep")]
    sections = _sections(ExperimentConfig) | _sections(SweepConfig)
    if args.path is not None:
        wanted = args.path.removeprefix("--").rstrip(".")
        known = [field["path"] for field in fields] + list(sections)
        fields = [field for field in fields if f"{field['path']}.".startswith(f"{wanted}.")]
        if not fields:
            raise InputError("PATH", args.path, "no such field or section", which_field(wanted, known))
        sections = {path: text for path, text in sections.items() if f"{path}.".startswith(f"{wanted}.")}
    return {"fields": fields, "sections": sections if args.path else {}}


def _sections(config: type[Any]) -> dict[str, str]:
    """Returns what each section of a config is for."""
    from dataclasses import is_dataclass
    from inspect import getdoc

    from experiments.recipe import field_paths

    return {path: getdoc(hint) or "" for path, hint in field_paths(config) if is_dataclass(hint)}


def _fields(config: type[Any], recipe: str) -> Iterator[Document]:
    """Yields a document for every field of a config. `recipe`: the kind of recipe that has it."""
    from dataclasses import MISSING, is_dataclass
    from typing import get_type_hints

    from experiments.recipe import declared_fields
    from lightning_modules.config import choices, describe_fully, meaning

    offered = _offered()
    for path, owner, field in declared_fields(config):
        hint = get_type_hints(owner, include_extras=True)[field.name]
        if is_dataclass(hint):
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        yield {
            "path": path,
            "type": describe_fully(hint),
            "default": None if default is MISSING else default,
            "choices": offered.get(path) or choices(hint),
            "help": meaning(owner, field.name),
            "recipe": recipe,
            "required": default is MISSING,
        }


def _offered() -> dict[str, list[str]]:
    """Returns the names that the workbench offers for a field, which also takes others, such as dotted paths."""
    from experiments.config import RECIPES
    from lightning_modules.datasets import all_sources
    from lightning_modules.losses import BUILT_IN
    from lightning_modules.metrics import monitors
    from lightning_modules.networks import built_in
    from lightning_modules.optimizers import SCHEDULES, of_torch

    names: dict[str, Iterable[str]] = {
        "data.source": all_sources(),
        "model.network": built_in(),
        "model.loss": BUILT_IN,
        "optimizer.kind": of_torch(),
        "optimizer.schedule.kind": SCHEDULES,
        "trainer.monitor": monitors(),
        "objective.metric": monitors(),
        "recipe": [path.stem for path in RECIPES.glob("*.yaml")],
    }
    return {path: sorted(offered) for path, offered in names.items()}


def show(document: Document, args: argparse.Namespace) -> None:
    fields = document["fields"]
    if len(fields) == 1:
        _show_one(fields[0])
        return
    sections: dict[tuple[str, str], list[Document]] = {}
    for field in fields:
        sections.setdefault((field["recipe"], field["path"].rpartition(".")[0]), []).append(field)
    for (recipe, section), members in sections.items():
        print(section or f"{recipe} recipe")
        for paragraph in filter(None, document["sections"].get(section, "").split("\n\n")):
            print_prose(" ".join(paragraph.split()), "  ")
        rows = table("field", "default", "meaning", prose=["meaning"])
        for field in members:
            name = field["path"] if screen_width() >= _WIDE else field["path"].rpartition(".")[2]
            rows.add_row(name, _default(field), f"{field['help']}\n[{_accepts(field)}]")
        print_table(rows)


def _show_one(field: Document) -> None:
    print(field["path"])
    print_prose(field["help"], "  ")
    print_prose(_accepts(field), "  accepts  ")
    print_prose(_default(field), "  default  ")


def _default(field: Document) -> str:
    import json

    default = field["default"]
    if isinstance(default, str):
        return default
    if isinstance(default, float):
        return f"{default:.4g}"
    return "must be given" if field["required"] else json.dumps(default)


def _accepts(field: Document) -> str:
    """Returns the type of a field, or the names that it offers and what else it takes."""
    is_open = field["choices"] and not field["type"].startswith("one of")
    return f"{field['type']}; known: {', '.join(field['choices'])}" if is_open else field["type"]
