"""Sweeps from a plain script, without a main guard, and from standard input."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json
import sweeps

print("once")
found = sweeps.run(sweeps.load_sweep("my_sweep.yaml"), workers=2)
print(json.dumps([trial["outcome"] for trial in found.trials]))
"""
SWEEP = """
recipe: digits
overrides: {trainer.max_epochs: 1, model.network: my_net.Net}
space: {optimizer.lr: [0.001, 0.01]}
sampler: {kind: grid}
pruner: {kind: none}
budget: {trials: 2}
finalists: {top: 1, seeds: 1, baseline: false}
"""
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_script_without_a_main_guard_sweeps_with_two_workers(how: str, tmp_path: Path) -> None:
    for name, text in {"script.py": SCRIPT, "my_sweep.yaml": SWEEP, "my_net.py": NET}.items():
        (tmp_path / name).write_text(text)
    word = {"file": "script.py", "standard input": "-"}[how]
    given = SCRIPT if how == "standard input" else ""
    command = [sys.executable, word]
    done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'once\n["finished", "finished"]\n'), done.stderr
    assert "Traceback" not in done.stderr
