"""A sweep over a real Ray cluster, on loopback."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.process.owner import Owner
from lightning_modules import InputError
from sweeps import load_sweep, run
from tests.stock import stock_storage
from tests.warm_python import WarmPython

Start = Callable[..., WarmPython]

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None and not os.environ.get("CI"), reason="needs pip install -e '.[ray]' -c constraints.txt"
)

# A network that waits, after its 20th batch, until a file is there.
WAITING = """
import time
from pathlib import Path
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    batches = 0

    def forward(self, images):
        self.batches += self.training
        while self.batches > 20 and not Path({file!r}).exists():
            time.sleep(0.01)
        return super().forward(images)
"""
GRID = """
recipe: digits
space: {optimizer.lr: [0.001, 0.003, 0.01, 0.03]}
sampler: {kind: grid}
pruner: {kind: none}
budget: {trials: 4}
overrides: {model.network: waiting_net.Net, trainer.max_epochs: 2}
resources: {cpus: 0.75}
"""
OPEN = "attributes.status = 'RUNNING' and tags.`workbench.sweep` = 'grid'"

# Two nodes, each with room for one trial; the second is killed at the first line of input.
TWO_NODES = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
cluster = Cluster(initialize_head=True, head_node_args={**node, "_system_config": quick})
second = cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@dataclass(frozen=True)
class Waiting:
    """The sweep recipe whose trials wait for a file."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "grid.yaml"

    @property
    def go(self) -> Path:
        return self.folder / "go"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    folder = tmp_path_factory.mktemp("waiting")
    made = Waiting(folder)
    (folder / "waiting_net.py").write_text(WAITING.format(file=str(made.go)))
    made.recipe.write_text(GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(folder)
        yield made


@dataclass(frozen=True)
class TwoNodes:
    process: "subprocess.Popen[str]"
    address: str

    def kill_one(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "removed\n"


@pytest.fixture(scope="module")
def two_nodes(waiting: Waiting) -> Iterator[TwoNodes]:
    """A running cluster that asks for a token, which this process and its children have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 alone
        command = [sys.executable, "-c", TWO_NODES]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        yield TwoNodes(process, process.stdout.readline().strip())
        process.communicate("\n\n")


def runs_in(store: Path) -> str:
    return f"sqlite:///{store}/mlflow.db"


def studies_in(store: Path) -> str:
    return f"sqlite:///{store}/optuna.db"


def running(tracking_uri: str) -> list[Owner]:
    """The processes whose trials run now."""
    client = MlflowClient(tracking_uri)
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(everywhere, f"{OPEN} and tags.`workbench.kind` = 'trial'")
    owners = [Owner.parse(run.data.tags["workbench.owner"]) for run in found]
    return [owner for owner in owners if owner is not None]


def outcomes(tracking_uri: str, storage: str) -> list[str]:
    """Of every trial, in order; none of them runs."""
    client = MlflowClient(tracking_uri)
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    assert not client.search_runs(everywhere, OPEN)
    trials = optuna.load_study(study_name="grid", storage=stock_storage(storage)).trials
    assert all(trial.state.is_finished() for trial in trials)
    return [trial.user_attrs["outcome"] for trial in trials]


def leaderboard(document: dict[str, object]) -> list[tuple[object, ...]]:
    """Points with their seeds and exact values, best first."""
    trials = document["trials"]
    assert isinstance(trials, list)
    finished = [trial for trial in trials if trial["value"] is not None]
    ranked = sorted(finished, key=lambda trial: (-trial["value"], trial["params"]["optimizer.lr"]))
    return [(trial["params"]["optimizer.lr"], trial["seed"], trial["value"]) for trial in ranked]


@needs_ray
def test_a_cluster_that_loses_a_node_ends_the_sweep_with_the_leaderboard_of_one_machine(
    tmp_path: Path,
    waiting: Waiting,
    two_nodes: TwoNodes,
    postgres: Postgres,
    tracking_server: str,
    start_workbench: Start,
    poll: Callable[..., None],
) -> None:
    """The cluster's runs go to an MLflow server and its study to PostgreSQL, as those of several hosts would."""
    words = ("sweep", waiting.recipe, "--engine", "ray", "--address", two_nodes.address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking_server)
        sweep = start_workbench(*words, "--storage", postgres.url, "--store", tmp_path / "cluster", "--json")
    too_large = start_workbench(*words, "--store", tmp_path / "none", "--resources.gpus", "0.5")
    poll(lambda: sweep.poll() is not None or len(running(tracking_server)) == 2, seconds=240)
    two_nodes.kill_one()
    waiting.go.touch()
    alone = run(load_sweep(str(waiting.recipe)), store=Store.open(tmp_path / "alone")).as_dict()
    printed, said = sweep.communicate()
    waiting.go.unlink()
    assert sweep.returncode == 0, said
    assert postgres.password not in printed + said
    storage = postgres.url.replace("postgresql", "postgresql+psycopg", 1)
    assert sorted(outcomes(tracking_server, storage)) == ["died", *["finished"] * 4]
    document = json.loads(printed)
    assert leaderboard(document) == leaderboard(alone)
    assert document["finalists"][0]["values"] == alone["finalists"][0]["values"]
    assert document["champion"]["test_accuracy"] == alone["champion"]["test_accuracy"]
    _, said = too_large.communicate()
    assert (too_large.returncode, said.count("\n")) == (2, 1), said
    assert said.startswith("error: resources: no machine of the cluster has what a trial asks for")


@needs_ray
def test_ctrl_c_ends_a_cluster_of_its_own_and_leaves_the_trial_open(
    tmp_path: Path, waiting: Waiting, start_workbench: Start, poll: Callable[..., None]
) -> None:
    store = tmp_path / "store"
    words = ("sweep", waiting.recipe, "--engine", "ray", "--workers", "1")
    sweep = start_workbench(*words, "--store", store)

    def has_begun() -> bool:
        return (store / "mlflow.db").exists() and len(running(runs_in(store))) == 1

    poll(lambda: sweep.poll() is not None or has_begun(), seconds=240)
    family = psutil.Process(sweep.pid).children(recursive=True)
    own = {sweep.pid, *(member.pid for member in family)}
    listening = [link for link in psutil.net_connections("tcp") if link.status == psutil.CONN_LISTEN]
    assert {link.laddr.ip.removeprefix("::ffff:") for link in listening if link.pid in own} == {"127.0.0.1"}
    sweep.send_signal(signal.SIGINT)
    _, said = sweep.communicate()
    assert sweep.returncode == 130, said
    assert not psutil.wait_procs(family, timeout=30)[1]
    assert outcomes(runs_in(store), studies_in(store)) == ["interrupted"]
    waiting.go.touch()
    run(load_sweep(str(waiting.recipe), {"budget.trials": 1}), store=Store.open(store))
    assert outcomes(runs_in(store), studies_in(store)) == ["interrupted", "finished"]


def test_without_ray_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"--engine: Ray is not installed.*pip install 'lightning-workbench\[ray\]'"):
        run(load_sweep("digits"), store=Store.open(tmp_path), engine="ray")


def test_an_address_is_rays_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--address: .*--engine ray"):
        run(load_sweep("digits"), store=Store.open(tmp_path), address="127.0.0.1:6379")
