"""Several processes at one sweep: exact totals, whatever dies."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from experiments.process.owner import Owner
from experiments.training.checkpoints import epochs_done
from lightning_modules.datasets.base import SourceOptions
from lightning_modules.datasets.digits import SOURCES
from lightning_modules.datasets.shared import map_shared, save_shared
from tests.stock import stock_storage
from tests.warm_python import WarmPython

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., WarmPython]
Poll = Callable[..., Any]

SWEEP = ("sweep", "digits", "--workers", "2", "--trainer.max_epochs", "4", "--pruner.kind", "none", "--finalists", "{}")
COUNTING = {"finished", "pruned", "failed"}
PATIENCE = 240  # seconds that a sweep may take to begin, where other tests have the cores
CRASHING = """
import os, signal
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    batches = 0

    def forward(self, images):
        self.batches += self.training
        if self.batches > 20 and {condition}:  # long after the rehearsal
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(images)
"""


def trial_runs(store: Path) -> list[Run]:
    if not (store / "mlflow.db").exists():
        return []
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, "tags.`workbench.kind` = 'trial'", max_results=1000))


def outcomes(store: Path, sweep: str = "digits") -> dict[int, str]:
    """Each trial's outcome, after checking that both stores tell the same and are intact."""
    trials = optuna.load_study(study_name=sweep, storage=stock_storage(store)).trials
    told = {trial.number: str(trial.user_attrs["outcome"]) for trial in trials}
    in_mlflow = {int(run.data.tags["workbench.trial"]): run.data.tags["workbench.outcome"] for run in trial_runs(store)}
    assert in_mlflow.items() <= told.items()
    assert {number for number, outcome in told.items() if outcome in COUNTING} <= in_mlflow.keys()
    for database in ("mlflow.db", "optuna.db"):
        with closing(sqlite3.connect(store / database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return told


def assert_at_rest(store: Path) -> None:
    """Nothing runs any more, by either store."""
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    assert not client.search_runs(everywhere, "attributes.status = 'RUNNING'")
    for study in optuna.get_all_study_summaries(stock_storage(store)):
        trials = optuna.load_study(study_name=study.study_name, storage=stock_storage(store)).trials
        assert not [trial for trial in trials if not trial.state.is_finished()]


def counting(told: dict[int, str]) -> int:
    return sum(outcome in COUNTING for outcome in told.values())


def workers_at_work(store: Path) -> set[int]:
    """The ids of the processes whose trials run now, and not of those killed a moment ago."""
    owners = [
        Owner.parse(run.data.tags["workbench.owner"]) for run in trial_runs(store) if run.info.status == "RUNNING"
    ]
    return {owner.pid for owner in owners if owner is not None and owner.fate() != "gone"}


def test_two_workers_train_at_once_and_a_killed_one_is_replaced(
    tmp_path: Path, start_workbench: Start, poll: Poll
) -> None:
    sweep = start_workbench(*SWEEP, "--budget.trials", "8", "--store", tmp_path, "--json")

    def two_at_work() -> set[int]:
        assert sweep.poll() is None
        at_work = workers_at_work(tmp_path)
        return at_work if len(at_work) >= 2 else set()

    os.kill(min(poll(two_at_work, PATIENCE)), signal.SIGKILL)
    printed, said = sweep.communicate()
    assert sweep.returncode == 0, said
    told = outcomes(tmp_path)
    assert counting(told) == 8
    assert list(told.values()).count("died") == 1
    assert len(json.loads(printed)["trials"]) == 9
    owners = {run.data.tags["workbench.owner"] for run in trial_runs(tmp_path)}
    assert len(owners) == 3  # two workers, and the one that came for the killed one
    trials = optuna.load_study(study_name="digits", storage=stock_storage(tmp_path)).trials
    (died,) = [trial for trial in trials if trial.user_attrs["outcome"] == "died"]
    again = [trial for trial in trials if trial.user_attrs["slot"] == died.user_attrs["slot"]][-1]
    assert (again.params, again.user_attrs["seed"]) == (died.params, died.user_attrs["seed"])


def test_a_killed_fork_server_is_started_again_and_costs_no_slot(
    tmp_path: Path, start_workbench: Start, poll: Poll
) -> None:
    sweep = start_workbench(*SWEEP, "--budget.trials", "6", "--store", tmp_path)
    poll(lambda: sweep.poll() is not None or len(workers_at_work(tmp_path)) >= 2, PATIENCE)
    (server,) = [child for child in psutil.Process(sweep.pid).children() if "forkserver" in " ".join(child.cmdline())]
    server.kill()
    _, said = sweep.communicate()
    assert sweep.returncode == 0, said
    assert "the process that starts workers was killed: it is started again" in said
    assert "Traceback" not in said
    told = outcomes(tmp_path)
    assert counting(told) == 6
    assert set(told.values()) <= {"finished", "interrupted"}
    assert_at_rest(tmp_path)


def test_a_network_that_always_crashes_python_ends_the_sweep_with_a_clear_word(
    tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing_net.py").write_text(CRASHING.format(condition="True"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("--model.network", "crashing_net.Net", "--retries", "0", "--store", tmp_path / "store")
    ended = workbench(*SWEEP, *words)
    assert ended.returncode == 1
    assert "workers died in a row" in ended.stderr.splitlines()[-1]
    assert set(outcomes(tmp_path / "store").values()) <= {"died", "interrupted"}
    assert not workers_at_work(tmp_path / "store")


def test_two_commands_share_one_sweep(tmp_path: Path, start_workbench: Start) -> None:
    words = (*SWEEP, "--workers", "1", "--budget.trials", "8", "--finalists.top", "2", "--store", tmp_path, "--json")
    both = [start_workbench(*words) for _ in range(2)]
    documents = [json.loads(command.communicate()[0]) for command in both]
    assert [command.returncode for command in both] == [0, 0]
    assert counting(outcomes(tmp_path)) == 8
    assert documents[0]["trials"] == documents[1]["trials"]
    assert documents[0]["champion"] == documents[1]["champion"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(client.search_runs(["1"], "tags.`workbench.kind` = 'finalist'")) == 2


def test_a_shared_data_set_is_the_same_and_changes_stay_private(tmp_path: Path) -> None:
    digits = SOURCES["digits"].load(SourceOptions())
    save_shared(digits, tmp_path)
    one, other = map_shared(tmp_path), map_shared(tmp_path)
    assert one.sha256 == digits.sha256
    one.train.images[0] = 0
    np.testing.assert_array_equal(other.train.images, digits.train.images)


def wait_for_two_epochs(sweep: WarmPython, store: Path, poll: Poll) -> Run:
    """The run of the trial at work, once its second epoch is in the store."""

    def reached() -> Run | None:
        assert sweep.poll() is None, sweep.communicate()
        for run in trial_runs(store):
            if run.info.status == "RUNNING" and len(accuracies(store, run)) == epochs_done(artifacts(run)) == 2:
                return run
        return None

    run: Run = poll(reached, PATIENCE)
    return run


def client_of(store: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def accuracies(store: Path, run: Run) -> list[float]:
    client = client_of(store)
    return [point.value for point in client.get_metric_history(run.info.run_id, "val/accuracy")]


def artifacts(run: Run) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://"))


def trace(run: Run) -> list[str]:
    return (artifacts(run) / "trace.jsonl").read_text().splitlines()


def test_a_killed_trial_is_tried_again_from_its_last_checkpoint(
    tmp_path: Path,
    workbench: Workbench,
    start_workbench: Start,
    poll: Poll,
    waiting_sweep: tuple[Path, tuple[str | Path, ...]],
) -> None:
    go, words = waiting_sweep
    store = tmp_path / "store"
    sweep = start_workbench(*words, "--store", store)
    killed = wait_for_two_epochs(sweep, store, poll)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    go.touch()
    assert workbench(*words, "--store", store).returncode == 0
    assert workbench(*words, "--store", tmp_path / "undisturbed").returncode == 0
    assert outcomes(store, "waiting") == {0: "died", 1: "finished", 2: "finished"}
    died, again, _ = sorted(trial_runs(store), key=lambda run: int(run.data.tags["workbench.trial"]))
    undisturbed = min(trial_runs(tmp_path / "undisturbed"), key=lambda run: int(run.data.tags["workbench.trial"]))
    assert died.info.run_id == killed.info.run_id
    assert trace(again) == trace(undisturbed)
    assert accuracies(store, again) == accuracies(tmp_path / "undisturbed", undisturbed)
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    assert len(client.get_metric_history(again.info.run_id, "throughput/images_per_second")) == 2  # trained here
    trials = optuna.load_study(study_name="waiting", storage=stock_storage(store)).trials
    assert trials[1].intermediate_values == dict(enumerate(accuracies(store, again), start=1))


def test_a_process_that_hangs_keeps_its_trial_and_others_say_that_they_wait_for_it(
    tmp_path: Path,
    workbench: Workbench,
    start_workbench: Start,
    poll: Poll,
    waiting_sweep: tuple[Path, tuple[str | Path, ...]],
) -> None:
    go, words = waiting_sweep
    store = tmp_path / "store"
    hanging = start_workbench(*words, "--store", store)
    wait_for_two_epochs(hanging, store, poll)
    os.kill(hanging.pid, signal.SIGSTOP)
    go.touch()
    with closing(sqlite3.connect(store / "optuna.db")) as connection, connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    waiting = start_workbench(*words, "--store", store)
    assert waiting.stderr is not None
    said = ""
    while f"waiting for trial 0 in process {hanging.pid} on" not in said:
        said += (line := waiting.stderr.readline())
        assert line, said
    os.kill(hanging.pid, signal.SIGCONT)
    for process in (hanging, waiting):
        _, said = process.communicate()
        assert process.returncode == 0, said
        assert "Traceback" not in said
    assert outcomes(store, "waiting") == {0: "finished", 1: "finished"}
    for run in trial_runs(store):
        steps = [point.step for point in client_of(store).get_metric_history(run.info.run_id, "val/loss")]
        assert len(steps) == len(set(steps)) == 4
    assert_at_rest(store)


def over_or_at_work(sweep: WarmPython, store: Path) -> bool:
    return sweep.poll() is not None or bool(workers_at_work(store))


def chaos(store: Path, start: Callable[[], WarmPython], poll: Poll, *, kills: int) -> None:
    """Starts the command over and over, and kills a worker, the command, or all its processes, so many times.

    Three kills of four strike while a trial runs, the others at any moment. Workers end with their command.
    """
    moments = random.Random(kills)
    sweep = start()
    for _ in range(kills):
        if moments.random() < 0.75:
            poll(partial(over_or_at_work, sweep, store), PATIENCE)
        with suppress(subprocess.TimeoutExpired):
            sweep.wait(timeout=moments.uniform(0, 1))
        family = psutil.Process(sweep.pid).children(recursive=True) if sweep.poll() is None else []
        struck = moments.choice(["worker", "command", "all"])
        if family and struck == "worker":
            moments.choice(family).kill()
            continue
        sweep.kill()
        for member in family if struck == "all" else []:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        sweep.communicate()
        assert not psutil.wait_procs(family, timeout=60)[1]
        sweep = start()
    while sweep.communicate() and sweep.returncode != 0:  # it may end by itself where its helpers died under it
        sweep = start()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("trials", "kills", "epochs"),
    [pytest.param(40, 25, "20", marks=pytest.mark.soak), (12, 8, "4")],
    ids=["whole", "short"],
)
def test_whatever_is_killed_and_however_often_the_sweep_ends_with_exactly_its_trials(
    tmp_path: Path, start_workbench: Start, poll: Poll, trials: int, kills: int, epochs: str
) -> None:
    budget = ("--budget.trials", str(trials), "--trainer.max_epochs", epochs)
    words = (*SWEEP, *budget, "--store", tmp_path, "--json")
    chaos(tmp_path, lambda: start_workbench(*words), poll, kills=kills)
    told = outcomes(tmp_path)
    assert counting(told) == trials
    assert "died" in told.values()
    assert len(told) - trials >= kills // 2  # the other kills struck between two trials
    assert_at_rest(tmp_path)
    study = optuna.load_study(study_name="digits", storage=stock_storage(tmp_path))
    counted = [trial for trial in study.trials if trial.user_attrs["outcome"] in COUNTING]
    assert sorted(trial.user_attrs["slot"] for trial in counted) == list(range(trials))
    assert len({str(trial.params) for trial in counted}) == trials


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        message = f"a small disk needs the right to mount one: {mounted.stderr.decode()}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_the_sweep_with_a_clear_word_and_it_goes_on_once_there_is_room(
    small_disk: Path, workbench: Workbench, start_workbench: Start, poll: Poll
) -> None:
    words = (*SWEEP, "--budget.trials", "4", "--store", small_disk / "store")
    sweep = start_workbench(*words)
    poll(lambda: sweep.poll() is not None or trial_runs(small_disk / "store"), PATIENCE)
    assert sweep.poll() is None
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    _, said = sweep.communicate()
    assert sweep.returncode == 1, said
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert str(small_disk / "store") in last
    assert "full" in last or "No space left" in last
    assert "the same command again" in last
    filler.unlink()
    again = workbench(*words)
    assert again.returncode == 0, again.stderr
    told = outcomes(small_disk / "store")
    assert counting(told) == 4
    assert "failed" not in told.values()
    assert_at_rest(small_disk / "store")


# A command that is killed while it sends a new worker its work: the worker reads a part of it.
HALF_SENT = """
import os
from multiprocessing import connection, forkserver
forkserver.set_forkserver_preload(["sweeps.engines.preload"])
forkserver.ensure_running()
sentinel, work = forkserver.connect_to_new_process([])
os.write(work, {part!r})
os.close(work)
assert connection.wait([sentinel], 60)
"""


@pytest.mark.parametrize("part", [b"", b"\x80\x05\x95"], ids=["nothing", "a part"])
def test_a_worker_whose_command_was_killed_before_it_had_its_work_says_nothing(part: bytes) -> None:
    command = [sys.executable, "-c", HALF_SENT.format(part=part)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
