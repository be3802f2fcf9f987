"""The GPU mode, on a bare machine and on one with all packages, rehearsed on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

BARE = """
import runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

MISSING = {"experiments", "sweeps", "mlflow", "optuna", "pooch", "pandas"}

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, *rest)

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Finder]
runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
"""


def measured(folder: Path, *words: str, python: tuple[str, ...] = ("-m", "benchmarks")) -> tuple[list[str], str]:
    """The lines that it prints, and what it says beside them. One thread: the cores may be busy."""
    options = ["--gpu", str(folder), "--device", "cpu", "--images", "900", "--epochs", "1", *words]
    environment = os.environ | {"WORKBENCH_DATA": "/nowhere", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *python, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def rows(folder: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads((folder / "results.json").read_text())["gpu"]}


def test_steps_need_nothing_of_experiments_mlflow_or_optuna(tmp_path: Path) -> None:
    options = ("--rows", "batch 512", "whole", "--pairs", "3", "--seconds", "0")
    lines, said = measured(tmp_path, *options, python=("-c", BARE))
    names = [f"{way}, batch 512" for way in ("steps one by one", "captured steps", "compiled and captured steps")]
    assert [line.partition(":")[0] for line in lines] == names
    assert "whole tracked run, batch 32: not measured, needs mlflow" in said
    found = rows(tmp_path)
    assert list(found) == names
    # No time for a second pair, but each row has one. The first epoch, the only one here, is counted then.
    assert [row["pairs"] for row in found.values()] == [1, 1, 1]
    assert [row["uncaptured"] for row in found.values()] == ["", "", ""]
    assert not (tmp_path / "unfinished.json").exists()


def test_a_whole_run_is_measured_where_its_packages_are(tmp_path: Path) -> None:
    lines, _ = measured(tmp_path, "--rows", "whole", "--pairs", "1")
    assert [line.partition(":")[0] for line in lines] == ["whole tracked run, batch 32"]
    (row,) = rows(tmp_path).values()
    assert (row["images"], row["epochs"], row["goal"]) == (900, 1, 6.0)
