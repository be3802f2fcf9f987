"""Arrows point down only: workbench → sweeps → experiments → lightning_modules, and rooms of one floor form no circle.

A room is a folder of a floor; a file beside the rooms counts as a room of its own. Imports inside functions and under
TYPE_CHECKING count too.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("workbench", "sweeps", "experiments", "lightning_modules")  # from the top
MOST_FILES = 14


def sources(floor: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / floor).rglob("*.py*") if path.suffix in {".py", ".pyi"})


def imported_modules(path: Path) -> Iterator[str]:
    """Every module, or name in one, that a file imports, at any depth of its code."""
    package = path.parent.parts
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    """`experiments/tracking/store.py` → `experiments/tracking`; `experiments/config.py` → `experiments/config`."""
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else str(path.with_suffix(""))


def room_of_module(module: str) -> str:
    """The same for a module or a name in one; a name of a floor itself belongs to its `__init__`."""
    floor, *rest = module.split(".")
    is_there = rest and ((ROOT / floor / rest[0]).is_dir() or (ROOT / floor / f"{rest[0]}.py").exists())
    return f"{floor}/{rest[0]}" if is_there else f"{floor}/__init__"


def rooms(floor: str) -> dict[str, set[str]]:
    """Each room of a floor, and the other rooms of that floor that it imports."""
    found: dict[str, set[str]] = {}
    for path in sources(floor):
        own = found.setdefault(room_of(path), set())
        own |= {room_of_module(module) for module in imported_modules(path) if module.split(".")[0] == floor}
    return {room: others - {room} for room, others in found.items()}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_what_lies_below(floor: str) -> None:
    above = set(FLOORS[: FLOORS.index(floor)])
    upward = {str(path): above & {module.split(".")[0] for module in imported_modules(path)} for path in sources(floor)}
    assert {path: names for path, names in upward.items() if names} == {}


@pytest.mark.parametrize(
    ("floor", "uses", "never"),
    [
        ("lightning_modules", {"torch", "sklearn"}, {"mlflow", "optuna"}),
        ("experiments", {"lightning_modules", "mlflow"}, {"optuna"}),
        ("sweeps", {"experiments", "optuna"}, set()),
        ("workbench", {"sweeps", "experiments"}, {"torch", "pytorch_lightning", "mlflow", "optuna"}),
    ],
)
def test_a_floor_knows_its_own_libraries_alone(floor: str, uses: set[str], never: set[str]) -> None:
    imported = {module.split(".")[0] for path in sources(floor) for module in imported_modules(path)}
    assert uses <= imported
    assert never & imported == set()


@pytest.mark.parametrize("floor", FLOORS)
def test_the_rooms_of_a_floor_form_no_circle(floor: str) -> None:
    try:
        TopologicalSorter(rooms(floor)).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("floor", ["sweeps", "experiments", "lightning_modules"])
def test_a_room_has_few_files(floor: str) -> None:
    counts: dict[str, int] = {}
    for path in sources(floor):
        if path.name != "__init__.py" and path.suffix == ".py":
            counts[str(path.parent)] = counts.get(str(path.parent), 0) + 1
    assert {room: count for room, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_every_room_says_what_it_is_for(floor: str) -> None:
    packages = [path for path in sources(floor) if path.name == "__init__.py"]
    missing = [str(path) for path in packages if not ast.get_docstring(ast.parse((ROOT / path).read_text()))]
    assert missing == []


def test_a_circle_and_an_arrow_up_would_be_found() -> None:
    assert room_of_module("experiments.tracking.store.Store") == "experiments/tracking"
    assert room_of_module("experiments.Store") == "experiments/__init__"
    assert "experiments.tracking.store.Store" in set(imported_modules(Path("workbench/_command.py"))) | set(
        imported_modules(Path("experiments/runner.py"))
    )
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
