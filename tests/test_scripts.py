"""Sweeps from a plain script, without a main guard, and from standard input."""

import json
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
overrides: {trainer.max_epochs: 1, trainer.keep_checkpoints: all, model.network: my_net.Net}
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

# A network is edited and loaded again between two sweeps; then it is edited once more than it is loaded.
TWICE = """
import importlib
import json
from pathlib import Path

import experiments
import sweeps

store, file, shown = experiments.Store.open(), Path("my_net.py"), {}

def sweep(name):
    found = sweeps.run(sweeps.load_sweep("my_sweep.yaml", name=name), store=store, workers=2)
    runs = [store.client.get_run(run.run_id).data for run in experiments.list_runs(store, sweep=name)]
    paths = [store.client.download_artifacts(trial["run_id"], "checkpoints/last.ckpt") for trial in found.trials]
    sizes = [Path(path).stat().st_size for path in paths]
    shown[name] = [max(sizes), sorted({run.tags["workbench.record"] for run in runs})]

def widen(old, new):
    file.write_text(file.read_text().replace(old, new))

sweep("first")
widen("nn.Linear(64, num_classes)", "nn.Linear(64, 1000), nn.Linear(1000, num_classes)")
import my_net
importlib.reload(my_net)
sweep("second")
widen("1000", "1001")
importlib.reload(my_net)
widen("1001", "1002")
try:
    sweep("third")
except ValueError as error:
    shown["third"] = str(error)
print(json.dumps(shown))
"""


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_script_without_a_main_guard_sweeps_with_two_workers(how: str, tmp_path: Path) -> None:
    done = python(tmp_path, SCRIPT, how)
    assert (done.returncode, done.stdout) == (0, 'once\n["finished", "finished"]\n'), done.stderr
    assert not [word for word in ("Traceback", "trial 0") if word in done.stderr]  # progress is for terminals


def test_workers_have_what_the_script_has_loaded_last(tmp_path: Path) -> None:
    done = python(tmp_path, TWICE, "file")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    (small, of_small), (large, of_large) = shown["first"], shown["second"]
    assert large > small + 4 * 64 * 1000  # bytes of the wider layer's weights
    assert of_small == of_large == ["complete"]
    assert shown["third"].startswith("my_net: was edited after it was loaded, and worker processes would load it as it")


def python(folder: Path, script: str, how: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script beside a sweep's recipe and a network."""
    for name, text in {"script.py": script, "my_sweep.yaml": SWEEP, "my_net.py": NET}.items():
        (folder / name).write_text(text)
    word, given = {"file": ("script.py", ""), "standard input": ("-", script)}[how]
    return subprocess.run([sys.executable, word], cwd=folder, input=given, capture_output=True, text=True)
