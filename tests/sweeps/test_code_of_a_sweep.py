"""A sweep and a run whose code is edited while they run, go on later, and are then moved elsewhere with the project."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import Store
from experiments.code.code_store import CodeStore
from experiments.tracking.runs import list_runs, resolve
from tests.projects import answer, call, copy_project, edit, start

NET = """
import os
import time
from multiprocessing import parent_process
from pathlib import Path

from torch import nn

import wb_helper

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        if "WAIT" in os.environ and self.training and (parent_process() or "SINGLE" in os.environ):
            folder = Path(os.environ["WAIT"])
            (folder / "here").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        return super().forward(wb_helper.scale(images))
"""
SWEEP = """
recipe: digits
overrides: {model.network: wb_net.Net, trainer.max_epochs: 1}
space: {optimizer.lr: {low: 1.0e-3, high: 1.0e-1, log: true}}
budget: {trials: 4}
pruner: {kind: none}
finalists: {top: 1, seeds: 1}
"""
SWEEP_IT = ("sweep", "wb_sweep.yaml", "--workers", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project where files were edited while a sweep of 4 trials ran, and a run that was killed and then resumed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "project").mkdir()
    project = copy_project(folder / "project")
    (project / "wb_net.py").write_text(NET)
    (project / "wb_helper.py").write_text("def scale(images):\n    return 1.0 * images\n")
    (project / "wb_sweep.yaml").write_text(SWEEP)
    loaded = ["wb_net.py", "wb_helper.py", "experiments/runner.py", "sweeps/study/trial.py"]
    as_it_ran = {name: (project / name).read_text() for name in loaded}

    process = start(project, *SWEEP_IT, "--json", WAIT=str(folder))
    _await(process, folder / "here")
    for name in loaded:
        (project / name).write_text("raise ImportError('edited while the sweep runs')\n")
    (folder / "go").touch()
    _, said = process.communicate()
    assert process.returncode == 0, said
    for name, text in as_it_ran.items():
        (project / name).write_text(text)

    for name in ("here", "go"):
        (folder / name).unlink()
    words = ("train", "digits", "--model.network", "wb_net.Net", "--trainer.max_epochs", "3", "--trainer.threads", "1")
    process = start(project, *words, "--name", "cut", WAIT=str(folder), SINGLE="1")
    _await(process, folder / "here")
    (folder / "go").touch()
    assert process.stderr is not None
    assert any(line.startswith("epoch 2/") for line in process.stderr)
    process.kill()
    process.communicate()
    assert answer(project, *words, "--resume", "cut")["status"] == "FINISHED"
    return project


def _await(process: Any, path: Path) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()


def provenance(project: Path, run_id: str) -> Any:
    (found,) = (project / "mlruns" / "artifacts").glob(f"{run_id}/artifacts/provenance.json")
    return json.loads(found.read_text())


def test_every_trial_is_recorded_with_the_code_that_ran(project: Path) -> None:
    store = Store.open(project / "mlruns")
    runs = list_runs(store, sweep="wb_sweep")
    assert [run.kind for run in runs] == ["finalist", *["trial"] * 4]
    told = [provenance(project, run.run_id) for run in runs]
    assert [each["record"] for each in told] == [{"state": "complete", "problems": []}] * 5
    (commit,) = {each["code"]["commit"] for each in told}
    kept = dict(CodeStore(store.folder).read(CodeStore(store.folder).tree(commit)))
    assert kept["wb_net.py"].content.decode() == NET
    assert {"wb_net.py", "wb_helper.py", "sweeps/study/trial.py"} <= set(told[0]["code"]["loaded"])


def test_code_git_has_one_commit_for_all_trials_of_one_tree(project: Path) -> None:
    refs = list((project / "mlruns" / "code.git" / "refs" / "code").iterdir())
    assert len(refs) == 1


def test_a_sweep_goes_on_only_with_the_code_that_it_began_with(project: Path) -> None:
    edit(project / "wb_helper.py", "1.0", "0.5")
    more = (*SWEEP_IT, "--budget.trials", "5")
    refused = call(project, *more)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: --code: wb_helper.py changed since the sweep began at ")
    assert "--code today, which goes on with today's, and every later trial says so" in line
    store = Store.open(project / "mlruns")
    assert len(list_runs(store, sweep="wb_sweep")) == 5

    assert len(answer(project, *more, "--code", "today")["trials"]) == 5
    runs = list_runs(store, sweep="wb_sweep")
    tags = [store.client.get_run(run.run_id).data.tags for run in reversed(runs)]
    changed = [tag.get("workbench.code_changed") for tag in tags if tag["workbench.kind"] == "trial"]
    assert changed == [None] * 4 + ["wb_helper.py"]
    edit(project / "wb_helper.py", "0.5", "1.0")


def test_all_of_it_is_bitwise_the_same_after_store_and_project_were_moved(project: Path) -> None:
    moved = project.rename(project.with_name("elsewhere"))
    store = Store.open(moved / "mlruns")
    trial = next(run.run_id for run in list_runs(store, sweep="wb_sweep", kind="trial"))
    champion = resolve(store, "wb_sweep:champion")[0].run_id
    results = answer(moved, "reproduce", champion, trial, "cut")["results"]
    assert [(result["verdict"], result["record"]["state"]) for result in results] == [("bitwise", "complete")] * 3
    moved.rename(project)
