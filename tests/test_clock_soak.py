"""Runs and sweeps while the clock is stepped, with judges in other containers: no live run is taken for dead.

CLOCK_RUNS and CLOCK_SWEEPS set other numbers.
"""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from experiments import Store
from tests.stock import stock_storage

pytestmark = [pytest.mark.soak, pytest.mark.timeout(10_000)]

RUNS = int(os.environ.get("CLOCK_RUNS", "40"))
SWEEPS = int(os.environ.get("CLOCK_SWEEPS", "6"))
STEPS = (0, 60, -60, 172_800, -172_800)  # seconds
EVERY = 2.0  # seconds between two steps of the clock
TRIALS = 4
CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "--mount-proc"]
SET_BOOT_TIME = 'sed "s/^btime.*/btime $1/" /proc/stat > "$2"; mount --bind "$2" /proc/stat; shift 2; exec "$@"'


@contextmanager
def stepping(offset: Path, ending: threading.Event) -> Iterator[None]:
    """Steps the clock of the processes that read `offset` until the block ends."""
    draw = random.Random(0)

    def step() -> None:
        while not ending.wait(EVERY):
            offset.write_text(f"{draw.choice(STEPS)}   ")

    thread = threading.Thread(target=step)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def test_no_live_run_is_taken_for_dead(tmp_path: Path) -> None:
    store, offset, shim, ending = tmp_path / "store", tmp_path / "offset", tmp_path / "shim.so", threading.Event()
    source = Path(__file__).with_name("clock_shim.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    Store.open(store).ensure_database()
    offset.write_text("0")
    environment = os.environ | {"LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(offset)}

    def work(words: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "workbench", *words, "--store", str(store)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    def judge(number: int) -> None:
        """Looks for dead runs all the time, in a container of the same host name, with a boot time of its own."""
        while not ending.is_set():
            stat = ("sh", "-c", SET_BOOT_TIME, "sh", str(1_700_000_000 + number), str(tmp_path / f"stat{number}"))
            command = [*CONTAINER, *stat, sys.executable, "-m", "workbench", "runs", "--store", str(store)]
            subprocess.run(command, env=environment, capture_output=True, check=True)

    train = ("train", "digits", "--trainer.max_epochs", "3", "--trainer.threads", "1")
    sweep = ("sweep", "digits", "--budget.trials", str(TRIALS), "--trainer.max_epochs", "3", "--workers", "2")
    jobs: list[tuple[str, ...]] = [(*train, "--seed", str(number), "--name", f"run {number}") for number in range(RUNS)]
    for number in range(SWEEPS):  # each by two commands
        words = (*sweep, "--pruner.kind", "none", "--finalists", "{}", "--name", f"sweep {number}")
        jobs[number * 2 : number * 2] = [words, words]
    judging = threading.Thread(target=partial(judge, 0))
    with stepping(offset, ending), ThreadPoolExecutor(3) as threads:
        judging.start()
        list(threads.map(work, jobs))
        ending.set()
    judging.join()
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.search_runs([each.experiment_id for each in client.search_experiments()], max_results=1000)
    assert [run.info.run_name for run in found if run.info.status != "FINISHED"] == []
    assert sum(run.data.tags["workbench.kind"] == "train" for run in found) == RUNS
    for run in found:
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert name.startswith("system/") or len(steps) == len(set(steps)), (run.info.run_name, name)
    for number in range(SWEEPS):
        trials = optuna.load_study(study_name=f"sweep {number}", storage=stock_storage(store)).trials
        assert [trial.user_attrs["outcome"] for trial in trials] == ["finished"] * TRIALS
