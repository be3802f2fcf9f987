"""The examples, each copied to a folder of its own: they train, sweep, are killed, go on, reproduce and compare."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.warm_python import WarmPython

ROOT = Path(__file__).parents[2]
TASKS = {"regression": "diabetes", "segmentation": "shapes"}
SHORT = ("--trainer.max_epochs", "2")


class Copy:
    """A copy of an example, and the command line in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.recipe = folder / name, TASKS[name]
        shutil.copytree(ROOT / "examples" / name, self.folder, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, *words: str) -> WarmPython:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        return WarmPython(["-m", "workbench", *words], cwd=self.folder, env=env, stdout=pipe, stderr=pipe)

    def answer(self, *words: str) -> dict[str, Any]:
        process = self.start(*words, "--json")
        printed, said = process.communicate()
        assert process.returncode == 0, said
        found: dict[str, Any] = json.loads(printed)
        return found


@pytest.fixture(scope="module", params=sorted(TASKS))
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("examples"), request.param)


def test_it_trains_is_compared_and_reproduces_bitwise(copy: Copy) -> None:
    recipe = f"{copy.recipe}.yaml"
    runs = [copy.answer("train", recipe, *SHORT, "--seed", seed) for seed in ("0", "1")]
    metrics = runs[0]["metrics"]
    kinds = {"train", "val", "test", "throughput", "progress", "value"}
    assert {name.partition("/")[0] for name in metrics} == kinds
    ids = [run["run_id"] for run in runs]
    compared = copy.answer("compare", *ids)
    assert compared["ranking"][0]["score"] in [run["metrics"]["value"] for run in runs]
    assert [row["field"] for row in compared["differences"]] == ["seed"]
    results = copy.answer("reproduce", *ids)["results"]
    assert [(result["verdict"], result["record"]["state"]) for result in results] == [("bitwise", "complete")] * 2


@pytest.mark.parametrize("steps", ["2", "64"])
def test_its_training_step_is_its_own_and_executed_one_by_one(copy: Copy, steps: str) -> None:
    words = ("train", f"{copy.recipe}.yaml", *SHORT)
    process = copy.start(*words, "--trainer.steps_per_execution", steps, "--json")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert len(re.findall(r"executed one by one .*: model.module .* has a training step of its own", said)) == 1
    values = [json.loads(printed)["metrics"]["value"], copy.answer(*words)["metrics"]["value"]]
    assert values[0] == values[1]


def test_its_sweep_is_killed_and_goes_on(copy: Copy) -> None:
    words = ("sweep", f"{copy.recipe}_sweep.yaml", *SHORT, "--budget.trials", "4", "--workers", "1")
    process = copy.start(*words)
    assert process.stderr is not None
    next(line for line in process.stderr if re.match(r"2/4 ", line))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    swept = copy.answer(*words)
    done = [trial for trial in swept["trials"] if trial["outcome"] in {"finished", "pruned"}]
    assert len(done) == 4
    assert swept["champion"]["model"] == f"models:/{copy.recipe}_sweep@champion"
    name = swept["metric"].partition("/")[2]
    assert swept["champion"][f"test_{name}"]["mean"] > 0
    best = swept["best"]["run_id"]
    results = copy.answer("reproduce", best, f"{copy.recipe}_sweep:champion")["results"]
    assert {result["verdict"] for result in results} == {"bitwise"}


def test_an_interrupted_run_ends_as_if_it_had_not_been(copy: Copy) -> None:
    words = ("train", f"{copy.recipe}.yaml", "--trainer.max_epochs", "4")
    whole = copy.answer(*words)
    process = copy.start(*words)
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("epoch 2/"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    resumed = copy.answer("train", "--resume", copy.answer("runs", "--status", "interrupted")["runs"][0]["run_id"])
    traces = [
        (copy.folder / "mlruns" / "artifacts" / run["run_id"] / "artifacts" / "trace.jsonl").read_text()
        for run in (whole, resumed)
    ]
    assert traces[0] == traces[1]
