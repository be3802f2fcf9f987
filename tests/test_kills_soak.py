"""A hundred kills at random moments of every long command: exact totals, whole stores, and nothing done twice.

KILLS sets another number, KILLS_SEED other moments. Each kill is printed with the command and its last words.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

from experiments.training.trace import read_trace
from tests.stock import stock_storage

pytestmark = [pytest.mark.soak, pytest.mark.timeout(10_000)]

KILLS = int(os.environ.get("KILLS", "100"))
SEED = int(os.environ.get("KILLS_SEED", "0"))
TRIALS, SEEDS = 4, 2
SWEEP = (
    *("sweep", "digits", "--budget.trials", str(TRIALS), "--workers", "2", "--trainer.max_epochs", "3"),
    *("--pruner.kind", "none", "--finalists", f"{{top: 1, seeds: {SEEDS}, baseline: false}}"),
)
TRAIN = ("train", "digits", "--trainer.max_epochs", "8", "--trainer.threads", "1", "--name", "resumed")


@dataclass
class Killer:
    """Runs commands, each of which is killed at random moments before it may end."""

    store: Path
    moments: random.Random

    def answer(self, *words: str | Path) -> dict[str, Any]:
        process = self._start(words)
        printed, said = process.communicate()
        assert process.returncode == 0, said
        found: dict[str, Any] = json.loads(printed)
        return found

    def strike(self, kills: int, words: Callable[[], tuple[str | Path, ...]], seconds: float) -> None:
        """Kills the command so many times, each in its first `seconds`, alone or with its whole process group."""
        for _ in range(kills):
            process, after = self._start(words()), self.moments.uniform(0, seconds)
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            is_group = self.moments.random() < 0.5
            with suppress(ProcessLookupError):
                (os.killpg if is_group else os.kill)(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            last = (said.strip().splitlines() or ["no word yet"])[-1]
            whom = "all its processes" if is_group else "alone"
            print(f"{words()[0]} after {after:.1f} s, {whom}: {last[:100]}", file=sys.__stderr__)
            assert "Traceback" not in said, said

    def _start(self, words: tuple[str | Path, ...]) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "workbench", *map(str, words), "--json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def seconds_of(do: Callable[[], Any]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def assert_whole(store: Path) -> None:
    """Both databases are intact, and nothing in them runs."""
    for database in ("mlflow.db", "optuna.db"):
        if (store / database).exists():
            with closing(sqlite3.connect(store / database)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    client = client_of(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert not client.search_runs(experiments, "attributes.status = 'RUNNING'")
    for run in client.search_runs(experiments, max_results=1000):
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert name.startswith("system/") or len(steps) == len(set(steps)), (run.info.run_name, name)


def client_of(store: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def points(store: Path, run_id: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client_of(store).get_metric_history(run_id, "val/loss")]


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return Killer(tmp_path_factory.mktemp("kills") / "store", random.Random(SEED))


def test_a_sweep_in_all_its_stages(killer: Killer) -> None:
    """Start-up, trials, finalists, test and report."""
    whole = killer.store.with_name("whole")
    seconds = seconds_of(lambda: killer.answer(*SWEEP, "--store", whole))
    rounds = max(1, KILLS // 20)
    for number in range(rounds):
        words = (*SWEEP, "--name", f"sweep {number}", "--store", killer.store)
        killer.strike(KILLS // 2 // rounds, lambda words=words: words, seconds)  # type: ignore[misc]
        document = killer.answer(*words)
        assert document["champion"]["run_ids"]
        for study, total in ((f"sweep {number}", TRIALS), (f"sweep {number} finalists", SEEDS)):
            trials = optuna.load_study(study_name=study, storage=stock_storage(killer.store)).trials
            outcomes = [trial.user_attrs.get("outcome") for trial in trials]
            assert outcomes.count("finished") == total, outcomes
            assert set(outcomes) <= {"finished", "died", "interrupted", None}
        assert_whole(killer.store)


def test_a_copy_of_the_store(killer: Killer) -> None:
    words = ("store", "copy", killer.store, killer.store.with_name("copy"))
    killer.strike(KILLS * 15 // 100, lambda: words, 12.0)
    killer.answer(*words)
    assert_whole(killer.store.with_name("copy"))
    tables = [
        {table: count_rows(store / "mlflow.db", table) for table in ("runs", "metrics", "params", "tags")}
        for store in (killer.store, killer.store.with_name("copy"))
    ]
    assert tables[0] == tables[1]


def count_rows(database: Path, table: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        ((count,),) = connection.execute(f"SELECT count(*) FROM {table}")
    return int(count)


def test_a_reproduction(killer: Killer) -> None:
    words = ("reproduce", "sweep 0:best", "--store", killer.store)
    seconds = seconds_of(lambda: killer.answer(*words))
    killer.strike(KILLS * 15 // 100, lambda: words, seconds)
    document = killer.answer(*words)
    assert {each["verdict"] for each in document["results"]} == {"bitwise"}
    assert list((killer.store / "scratch").glob("*")) == []
    assert_whole(killer.store)


def test_a_run_that_is_resumed(killer: Killer) -> None:
    whole = killer.store.with_name("undisturbed")
    undisturbed: dict[str, Any] = {}
    seconds = seconds_of(lambda: undisturbed.update(killer.answer(*TRAIN, "--store", whole)))

    def words() -> tuple[str | Path, ...]:
        known = run_ids()
        return ("train", "--resume", known[0], "--store", killer.store) if known else (*TRAIN, "--store", killer.store)

    def run_ids() -> list[str]:
        client = client_of(killer.store)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, "attributes.run_name = 'resumed' AND params.`trainer.max_epochs` = '8'")
        return [run.info.run_id for run in found if run.info.status != "FINISHED"]

    killer.strike(KILLS * 20 // 100, words, seconds)
    ended = killer.answer(*words()) if run_ids() else killer.answer(*TRAIN, "--store", killer.store)
    assert ended["outcome"] == "finished"
    assert points(killer.store, ended["run_id"]) == points(whole, undisturbed["run_id"])
    folders = [Path(run["artifact_uri"].removeprefix("file://")) for run in (ended, undisturbed)]
    assert read_trace(folders[0] / "trace.jsonl") == read_trace(folders[1] / "trace.jsonl")
    assert_whole(killer.store)


@pytest.mark.parametrize("over", ["seeds", "folds"])
def test_repeats(killer: Killer, over: str) -> None:
    words = ("train", "digits", f"--{over}", "4", "--workers", "2", "--trainer.max_epochs", "3")
    whole = killer.store.with_name(f"whole {over}")
    undisturbed: dict[str, Any] = {}
    seconds = seconds_of(lambda: undisturbed.update(killer.answer(*words, "--store", whole)))
    killer.strike(max(1, KILLS // 10), lambda: (*words, "--store", killer.store), seconds)
    document = killer.answer(*words, "--store", killer.store)
    assert [run["value"] for run in document["runs"]] == [run["value"] for run in undisturbed["runs"]]
    assert (document["mean"], document["ci95"]) == (undisturbed["mean"], undisturbed["ci95"])
    client = client_of(killer.store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    parent = f"tags.`mlflow.parentRunId` = '{document['parent_run_id']}'"
    outcomes = [run.data.tags["workbench.outcome"] for run in client.search_runs(experiments, parent)]
    assert outcomes.count("finished") == 4, outcomes
    assert set(outcomes) <= {"finished", "died", "interrupted"}
    assert_whole(killer.store)
