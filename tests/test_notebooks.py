"""The example notebook, and what a notebook's cells show, in a real kernel."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "notebook.ipynb"
Output = dict[str, Any]


def outputs_of(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Output]]:
    """Runs all cells in a kernel that works in `folder`; returns what each shows, by the cell's text."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):  # nothing of the user's own
        monkeypatch.setenv(variable, str(folder / variable))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def result_of(outputs: list[Output]) -> str:
    """The HTML of a cell's last expression."""
    (found,) = [output for output in outputs if output["output_type"] == "execute_result"]
    return str(found["data"].get("text/html", found["data"]["text/plain"]))


def bars_of(outputs: list[Output]) -> list[str]:
    return [str(output["data"]["text/plain"]) for output in outputs if output["output_type"] == "display_data"]


def test_the_example_runs_and_shows_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = outputs_of(nbformat.read(EXAMPLE, 4), tmp_path, monkeypatch)
    imports, first, _, sweep, trials, comparison, runs, reproduction = shown.values()
    assert all(output["output_type"] == "stream" for output in imports)
    # One bar for each run and sweep, redrawn in place; no line per epoch or trial, and no terminal's codes.
    (bar,) = bars_of(first)
    assert bar.startswith("epoch 2/2")
    (bar,) = bars_of(sweep)
    assert bar.startswith("4/4")
    printed = "".join(output["text"] for outputs in [*shown.values()][1:] for output in outputs if "text" in output)
    assert not [word for word in ("epoch", "trial", "Traceback", "\x1b[") if word in printed]
    assert "test/macro_f1" in result_of(first)
    assert "http://127.0.0.1:5000/#/experiments/" in result_of(first)
    assert "fresh seeds" in result_of(sweep)
    assert result_of(trials).count("finished") == 4
    assert "test/macro_f1 differs by" in result_of(comparison)
    assert "second</td>" in result_of(runs)
    assert ": bitwise" in result_of(reproduction)


def test_the_example_is_kept_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(EXAMPLE, 4).cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}
