"""A sweep whose study lies in PostgreSQL: a real server on loopback, shared, restarted, and away."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from benchmarks.postgres import Postgres
from experiments import Store  # sets how mlflow logs
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps.study.search import Search
from sweeps.study.storage import Storage
from tests.warm_python import WarmPython

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., WarmPython]

HOLDER = """
import sys
from experiments import Store
from sweeps.study.storage import Storage
from tests.warm_python import WarmPython
from tests.warm_python import WarmPython
from tests.warm_python import WarmPython
storage = Storage(Store.open(sys.argv[1]), sys.argv[2])
print("waiting", flush=True)
with storage.lock("same"):
    print("held")
"""


def words(postgres: Postgres, folder: Path, *more: str) -> tuple[str | Path, ...]:
    sweep = ("sweep", "digits", "--trainer.max_epochs", "4", "--pruner.kind", "none", "--finalists", "{}")
    return (*sweep, "--workers", "1", "--storage", postgres.url, "--store", folder, *more)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("outage", [pytest.param(30, marks=pytest.mark.soak), 0])
def test_hosts_share_one_sweep_while_both_servers_restart_and_a_worker_is_killed(
    postgres: Postgres,
    tmp_path: Path,
    start_workbench: Start,
    stoppable_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    outage: int,
) -> None:
    """Each command has a folder of its own, as on a host of its own; runs go to one MLflow server.

    That is away until every host has felt it, and so many seconds more.
    """
    name = f"shared {outage}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stoppable_server.url)
    more = ("--name", name, "--budget.trials", "16", "--finalists.top", "2", "--json")
    hosts = [start_workbench(*words(postgres, tmp_path / host, *more)) for host in "abcd"]

    for host in hosts:  # each has brought a trial to its end
        assert host.stderr is not None
        assert any("trial" in line for line in host.stderr)
    hosts[0].kill()
    stoppable_server.kill()
    postgres.stop()
    postgres.start()
    for host in hosts[1:]:
        assert host.stderr is not None
        assert any("the tracking server is unreachable" in line for line in host.stderr)
    time.sleep(outage)
    stoppable_server.start()
    documents = []
    for host in hosts[1:]:
        printed, said = host.communicate()
        assert host.returncode == 0, said
        assert postgres.password not in printed + said
        documents.append(json.loads(printed))
    first, *others = documents
    for told in ("trials", "champion"):
        assert all(document[told] == first[told] for document in others)
    counting = [trial for trial in first["trials"] if trial["outcome"] in {"finished", "pruned", "failed"}]
    assert len(counting) == 16
    assert len({str(trial["params"]) for trial in counting}) == 16
    client = MlflowClient(stoppable_server.url)
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id], f"tags.`workbench.sweep` = '{name}'", max_results=1000)
    assert not [run for run in runs if run.info.status == "RUNNING"]
    assert sum(run.data.tags["workbench.kind"] == "finalist" for run in runs) == 2
    for run in runs:
        if run.data.tags["workbench.outcome"] == "finished" and run.data.tags["workbench.kind"] == "trial":
            points = client.get_metric_history(run.info.run_id, "val/accuracy")
            assert len({point.step for point in points}) == len(points) == 4


def test_the_password_reaches_nothing_that_a_sweep_leaves(
    postgres: Postgres, tmp_path: Path, workbench: Workbench
) -> None:
    ended = workbench(*words(postgres, tmp_path / "store", "--name", "secret", "--budget.trials", "1"))
    assert ended.returncode == 0, ended.stderr
    assert postgres.password not in ended.stdout + ended.stderr
    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or postgres.password.encode() not in path.read_bytes(), path


def test_only_one_process_at_a_time_holds_a_lock(postgres: Postgres, tmp_path: Path) -> None:
    one, other = (Storage(Store.open(tmp_path / name), postgres.url) for name in "ab")
    with one.lock("same"), other.lock("another"):
        words = [sys.executable, "-c", HOLDER, str(tmp_path / "c"), postgres.url]
        held = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert held.stdout is not None
        assert held.stdout.readline() == "waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            held.wait(timeout=1)
    assert held.communicate()[0] == "held\n"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://host/db", "is not a PostgreSQL database"),
        ("sqlite:///optuna.db", "is not a PostgreSQL database"),
        ("postgresql://me:pw@127.0.0.1:1/db", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, open_search: Callable[..., Search], url: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        open_search(Store.open(tmp_path), load_sweep("digits", {"storage": url}))
    assert "pw" not in str(refused.value)
    assert "\n" not in str(refused.value)
