"""`--help` of every command and `--version`: they say what can be written, at once, on 80 columns."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import workbench

COMMANDS = sorted(path.stem for path in Path(workbench.__file__).parent.glob("[!_]*.py"))


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        workbench.main(words)
    assert end.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_fits_80_columns(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(words, capsys).splitlines()
    assert lines[0].startswith("usage: workbench")
    assert max(map(len, lines)) <= 80


def test_version_names_what_a_result_depends_on(capsys: pytest.CaptureFixture[str]) -> None:
    shown = dict(line.split(maxsplit=1) for line in printed(["--version"], capsys).splitlines())
    assert list(shown) == ["workbench", "Python", "torch", "Lightning", "MLflow", "Optuna"]
    assert (shown["Python"], shown["torch"]) == (platform.python_version(), version("torch"))


def test_version_imports_nothing_heavy() -> None:
    code = """
import sys, workbench
try:
    workbench.main(["--version"])
except SystemExit:
    pass
print(sorted({"torch", "mlflow", "optuna", "pytorch_lightning", "rich", "yaml", "pydantic"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_help_names_the_recipes_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("# my first recipe\noptimizer: {lr: 0.1}\n")
    (tmp_path / "my_search.yaml").write_text("recipe: mine\nspace: {optimizer.lr: [0.1, 0.01]}\n")
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    monkeypatch.chdir(tmp_path)
    train, sweep = (" ".join(printed([name, "--help"], capsys).split()) for name in ("train", "sweep"))
    networks = "fashion_mnist, fashion_mnist_mlp, fashion_mnist_resnet"
    assert f"Recipes of the workbench: arrays, digits, {networks}, image_folder." in train
    assert train.endswith("Recipes in this folder: mine.yaml.")
    sweeps = "fashion_mnist_networks, fashion_mnist_optimizers, fashion_mnist_question"
    assert f"Recipes of the workbench: digits, digits_question, {sweeps}." in sweep
    assert sweep.endswith("Recipes in this folder: my_search.yaml.")
