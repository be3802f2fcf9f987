"""Finds recipes by their file names and first words, for `--help`, which parses no YAML."""

import re
from pathlib import Path

_BUILT_IN = {"experiment": "experiments/recipes", "sweep": "sweeps/recipes"}  # beside this package
_SECTION = re.compile(r"^(experiment|seed|data|model|optimizer|trainer):", re.MULTILINE)
_SPACE = re.compile(r"^(space|recipe):", re.MULTILINE)
_MOST = 20  # recipes that are listed
_BEGINNING = 20_000  # characters of a file that are looked at


def list_recipes(kind: str) -> str:
    """Returns a sentence that names the recipes of a kind: the built-in ones, and those in the working directory."""
    built_in = sorted(path.stem for path in (Path(__file__).parents[1] / _BUILT_IN[kind]).glob("*.yaml"))
    own = sorted(path.name for path in Path().glob("*.y*ml") if _kind(path) == kind)
    more = f", and {len(own) - _MOST} more" if len(own) > _MOST else ""
    here = f" Recipes in this folder: {', '.join(own[:_MOST])}{more}." if own else ""
    return f"Recipes of the workbench: {', '.join(built_in)}.{here}"


def _kind(path: Path) -> str | None:
    """Returns what a YAML file seems to be; None if it is no recipe."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_BEGINNING)
    except (OSError, UnicodeDecodeError):
        return None
    return "sweep" if _SPACE.search(text) else "experiment" if _SECTION.search(text) else None
