"""The GPU mode on a bare machine, rehearsed on the CPU."""

import os
import subprocess
import sys

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


def test_it_needs_nothing_of_experiments_mlflow_or_optuna() -> None:
    options = [
        "--gpu",
        "--device",
        "cpu",
        "--rows",
        "batch 512, bf16",
        "--images",
        "900",
        "--epochs",
        "1",
        "--pairs",
        "1",
    ]
    environment = os.environ | {"WORKBENCH_DATA": "/nowhere"}
    command = [sys.executable, "-c", BARE, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("textbook PyTorch, batch 512, bf16-mixed: ")
