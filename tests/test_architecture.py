"""The arrows point down only: workbench.py → sweeps → experiments → lightning_modules."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported_by(folder: str) -> dict[str, set[Path]]:
    """Top-level names that the files of `folder` import, at any depth of their code, and the files that do."""
    found: dict[str, set[Path]] = {}
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            else:
                continue
            for module in modules:
                found.setdefault(module.partition(".")[0], set()).add(path.relative_to(ROOT))
    return found


@pytest.mark.parametrize(
    ("folder", "uses", "never"),
    [
        ("lightning_modules", {"torch", "sklearn"}, {"mlflow", "optuna", "experiments", "sweeps", "workbench"}),
        ("experiments", {"lightning_modules", "mlflow"}, {"optuna", "sweeps", "workbench"}),
        ("sweeps", {"experiments", "optuna"}, {"workbench"}),
    ],
)
def test_a_floor_imports_only_what_lies_below(folder: str, uses: set[str], never: set[str]) -> None:
    imported = imported_by(folder)
    assert uses <= imported.keys()
    assert {name: imported[name] for name in never & imported.keys()} == {}
