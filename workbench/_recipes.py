"""Tells the recipes of experiments from those of sweeps by their first words, for `--help`, which parses no YAML."""

import re
from pathlib import Path

from lightning_modules.checked_path import checked_path
from lightning_modules.errors import InputError
from lightning_modules.showable import showable

_BUILT_IN = {"experiment": "experiments/recipes", "sweep": "sweeps/recipes"}  # beside this package
_COMMAND = {"experiment": "train", "sweep": "sweep"}
_SECTION = re.compile(r"^(experiment|seed|data|model|optimizer|trainer):", re.MULTILINE)
_SPACE = re.compile(r"^(space|recipe):", re.MULTILINE)
_MOST = 20  # recipes that are listed
_BEGINNING = 20_000  # characters of a file that are looked at


def list_recipes(kind: str) -> str:
    """Returns a sentence that names the recipes of a kind: the built-in ones, and those in the working directory."""
    built_in = sorted(path.stem for path in (Path(__file__).parents[1] / _BUILT_IN[kind]).glob("*.yaml"))
    own = sorted(path.name for path in Path().glob("*.y*ml") if _kind(path) == kind)
    more = f", and {len(own) - _MOST} more" if len(own) > _MOST else ""
    here = f" Recipes in this folder: {', '.join(map(showable, own[:_MOST]))}{more}." if own else ""
    return f"Recipes of the workbench: {', '.join(built_in)}.{here}"


def check_kind(recipe: str, kind: str, store: str) -> None:
    """Raises InputError if a recipe is of the other kind. `store`: the folder that the command names."""
    other = "sweep" if kind == "experiment" else "experiment"
    folders = {each: Path(__file__).parents[1] / folder for each, folder in _BUILT_IN.items()}
    if checked_path("RECIPE", recipe).is_file():
        is_other = _kind(Path(recipe)) == other
    else:
        is_other = not (folders[kind] / f"{recipe}.yaml").exists() and (folders[other] / f"{recipe}.yaml").exists()
    if is_other:
        from experiments.tracking.store import command_on

        what = {"sweep": "a sweep's recipe", "experiment": "an experiment's recipe, without a space to search"}
        remedy = f"run it with: {command_on(store, _COMMAND[other], recipe)}"
        raise InputError("RECIPE", recipe, f"is {what[other]}", remedy)


def _kind(path: Path) -> str | None:
    """Returns what a YAML file seems to be; None if it is no recipe."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_BEGINNING)
    except (OSError, UnicodeDecodeError):
        return None
    return "sweep" if _SPACE.search(text) else "experiment" if _SECTION.search(text) else None
