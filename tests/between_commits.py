"""Checks that a newer commit works with a store that an older one made: `python tests/between_commits.py OLD [NEW]`.

OLD makes a store for digits, and one for Fashion-MNIST if WORKBENCH_DATA is set: a run, an interrupted run, a
finished sweep, and a sweep that is killed half-way. NEW then lists the store, continues what is unfinished, compares,
serves the dashboard, and reproduces every run. One line is printed for each check; the exit code is 1 if any failed.

Each commit is a clone of this repository, so changes that are not committed are not tested. Both commits use the
packages of this interpreter. Takes about ten minutes of CPU time; pytest does not collect this file.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("workbench", "sweeps", "experiments", "lightning_modules")
TRIALS, KILLED_AFTER = 8, 4  # the trials of the killed sweep, and how many end before the kill
PATIENCE = 180  # seconds within which the dashboard must answer

# Both commits read these recipes. Fashion-MNIST trains on one image in ten, with a small network.
RECIPES = {
    "digits": """
data: {source: digits, augmentation: {shift: 1}}
optimizer: {kind: adam, lr: 3.0e-3}
trainer: {max_epochs: 3, threads: 1}
""",
    "fashion_mnist": """
data: {source: fashion_mnist, val_fraction: 0.9, normalization: per_channel}
model: {network_args: {filters: 8, hidden: 32}}
optimizer: {kind: sgd, lr: 0.05, momentum: 0.9, schedule: {kind: one_cycle}}
trainer: {max_epochs: 3, threads: 1, weights: best}
""",
}
SWEEP = """
recipe: RECIPE
space: {optimizer.lr: {low: 1.0e-4, high: 0.1, log: true}, data.batch_size: [32, 64]}
budget: {trials: 3}
pruner: {kind: median, startup_trials: 2}
"""

failures: list[str] = []


def check(what: str, passed: bool, detail: object) -> None:
    """Prints one line: `ok` or `FAILED`, what was checked, and the detail."""
    print(f"{'ok' if passed else 'FAILED'}  {what}: {detail}", flush=True)
    if not passed:
        failures.append(what)


def git(folder: Path, *words: str) -> str:
    return subprocess.check_output(["git", "-C", str(folder), *words], text=True).strip()


class Commit:
    """A clone of this repository at one commit, and the command line of that code."""

    def __init__(self, name: str, revision: str, folder: Path) -> None:
        commit = git(ROOT, "rev-parse", "--verify", f"{revision}^{{commit}}")
        git(ROOT, "clone", "--quiet", "--local", "--no-checkout", str(ROOT), str(folder))
        git(folder, "checkout", "--quiet", "--detach", commit)
        kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        # PYTHONPATH comes before installed packages, also before an editable install of this repository.
        own = {"PYTHONPATH": str(folder), "XDG_CONFIG_HOME": str(folder.parent / "config")}
        self._options: dict[str, Any] = {"cwd": folder, "env": kept | own, "text": True}
        script = f"import {', '.join(FLOORS)}; print({', '.join(f'{floor}.__file__' for floor in FLOORS)}, sep='\\n')"
        files = subprocess.check_output([sys.executable, "-P", "-c", script], **self._options).splitlines()
        check(f"{name} imports its own code", all(Path(file).is_relative_to(folder) for file in files), commit)

    def start(self, *words: object, new_group: bool = False) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "workbench", *map(str, words)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=new_group, **self._options)

    def json(self, *words: object, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Returns what the command prints with --json; raises RuntimeError if its exit code is not one of `codes`."""
        process = self.start(*words, "--json")
        stdout, stderr = process.communicate()
        if process.returncode not in codes:
            raise RuntimeError(f"workbench {words[0]} ended with exit code {process.returncode}: {stderr[-1000:]}")
        document: dict[str, Any] = json.loads(stdout)
        return document

    def runs(self, store: Path, *words: object) -> dict[str, dict[str, Any]]:
        """Returns the runs that `workbench runs` lists, by run id."""
        return {run["run_id"]: run for run in self.json("runs", *words, "--store", store)["runs"]}

    def counted(self, store: Path, sweep: str) -> dict[str, str]:
        """Returns the run id and outcome of each trial that counts towards the sweep's target."""
        trials = self.runs(store, "--sweep", sweep, "--kind", "trial")
        return {id_: run["outcome"] for id_, run in trials.items() if run["outcome"] not in {"", "died", "interrupted"}}


def wait_for_line(process: "subprocess.Popen[str]", pattern: str) -> None:
    """Reads standard error up to a line that matches the pattern at its start."""
    assert process.stderr is not None
    if not any(re.match(pattern, line) for line in process.stderr):
        raise RuntimeError(f"no line of standard error begins with {pattern}")


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills the whole process group with SIGKILL, and removes the data set that its workers shared in memory."""
    os.killpg(process.pid, signal.SIGSTOP)
    family = psutil.Process(process.pid).children(recursive=True)
    mapped = {Path(file.path) for member in family for file in member.memory_maps()}
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for folder in {file.parent for file in mapped if file.is_relative_to("/dev/shm") and file.suffix == ".npy"}:
        shutil.rmtree(folder)


def commands(folder: Path, data_set: str) -> dict[str, tuple[object, ...]]:
    """Writes the recipes; returns each command's words by the name of its run or sweep."""
    recipe, sweep, store = folder / f"{data_set}.yaml", folder / f"{data_set}_sweep.yaml", folder / data_set
    recipe.write_text(f"experiment: {data_set}{RECIPES[data_set]}")
    sweep.write_text(SWEEP.replace("RECIPE", recipe.name))
    words: dict[str, tuple[object, ...]] = {
        "trained": ("train", recipe, "--trainer.max_epochs", 2),
        "interrupted": ("train", recipe, "--trainer.max_epochs", 20),
        "finished": ("sweep", sweep),
        "killed": ("sweep", sweep, "--budget.trials", TRIALS, "--workers", 2),
    }
    return {name: (*command, "--name", name, "--store", store) for name, command in words.items()}


def make_store(old: Commit, folder: Path, data_set: str) -> None:
    """Makes a store with OLD: a run, an interrupted run, a finished sweep, and a sweep killed half-way."""
    command = commands(folder, data_set)
    old.json(*command["trained"])
    old.json(*command["finished"])

    training = old.start(*command["interrupted"])
    wait_for_line(training, "epoch 2/")  # by then the checkpoint of epoch 1 is written
    training.send_signal(signal.SIGINT)
    training.communicate()
    check(f"{data_set}: OLD's run is interrupted", training.returncode == 130, f"exit code {training.returncode}")

    sweeping = old.start(*command["killed"], new_group=True)
    wait_for_line(sweeping, f"[{KILLED_AFTER}-{TRIALS}]/{TRIALS} ")
    kill(sweeping)
    done = len(old.counted(folder / data_set, "killed"))
    check(f"{data_set}: OLD's sweep is killed half-way", KILLED_AFTER <= done < TRIALS, f"{done} of {TRIALS} trials")


def check_store(old: Commit, new: Commit, folder: Path, data_set: str) -> None:
    """Checks NEW on that store: it lists, resumes, compares, shows and reproduces the runs."""
    store, command = folder / data_set, commands(folder, data_set)
    before, listed = old.runs(store), new.runs(store)
    kept = ("name", "kind", "start_time", "metrics", "params")
    same = before.keys() == listed.keys() and all(before[i][key] == listed[i][key] for i in before for key in kept)
    check(f"{data_set}: runs lists what OLD listed", same, f"{len(listed)} runs")
    done = old.counted(store, "killed")
    (begun,) = (i for i, run in before.items() if (run["kind"], run["name"]) == ("sweep", "killed"))
    (interrupted,) = (i for i, run in before.items() if run["name"] == "interrupted")

    sweep = new.json(*command["killed"], "--code", "today")
    counted = new.counted(store, "killed")
    outcomes, states = Counter(counted.values()), Counter(trial["state"] for trial in sweep["trials"])
    check(f"{data_set}: the same sweep is resumed", sweep["sweep_run_id"] == begun, begun)
    lost = {i: (outcome, counted.get(i)) for i, outcome in done.items() if counted.get(i) != outcome}
    check(f"{data_set}: its trials still count", not lost, f"{len(done)} trials, changed: {lost}")
    check(f"{data_set}: it ends with {TRIALS} trials that count", len(counted) == TRIALS, dict(outcomes))
    agrees = (states["COMPLETE"], states["PRUNED"]) == (outcomes["finished"], outcomes["pruned"])
    check(f"{data_set}: Optuna agrees", agrees and states.keys() <= {"COMPLETE", "PRUNED", "FAIL"}, dict(states))

    resumed = new.json(*command["interrupted"], "--resume", interrupted, "--code", "today")
    finished = (resumed["run_id"], resumed["status"]) == (interrupted, "FINISHED")
    check(f"{data_set}: the interrupted run is resumed", finished, resumed["status"])

    runs = new.runs(store)
    running = [run["name"] for run in runs.values() if run["status"] == "RUNNING"]
    check(f"{data_set}: no run is left running", not running, running)
    for name in ("finished", "killed"):
        compared = {run["run_id"] for run in new.json("compare", "--sweep", name, "--store", store)["runs"]}
        check(f"{data_set}: compare", compared == set(new.runs(store, "--sweep", name)), f"{len(compared)} of {name}")
    shown = run_ids_in_dashboard(new, store)
    check(f"{data_set}: ui shows every run", shown == runs.keys(), f"{len(shown)} of {len(runs)} runs")

    reproduced = [i for i, run in runs.items() if run["kind"] in {"train", "trial", "finalist"}]
    results = new.json("reproduce", *reproduced, "--store", store, "--trust", codes=(0, 1))["results"]
    check(f"{data_set}: reproduce gives every verdict", {r["run_id"] for r in results} == set(reproduced), len(results))
    for result in results:
        run, verdict = runs[result["run_id"]], result["verdict"]
        never_began = run["outcome"] in {"died", "interrupted"} and "val/loss" not in run["metrics"]  # no epoch ended
        passed = verdict == "bitwise" or (verdict == "cannot_run" and never_began)
        detail = "" if verdict == "bitwise" else f" {result['first_difference'] or ''} {result['causes']}"
        check(f"{data_set}: reproduce {run['kind']} {run['name']}, {run['outcome']}", passed, verdict + detail)


def run_ids_in_dashboard(commit: Commit, store: Path) -> set[str]:
    """Returns all runs that MLflow's REST interface finds while `workbench ui` serves the store on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = commit.start("ui", "--no-browser", "--store", store, "--port", port)

    def ask(path: str, **question: object) -> Any:
        body = json.dumps(question | {"max_results": 1000}).encode()
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/{path}/search"
        return json.load(urlopen(Request(url, body, {"Content-Type": "application/json"})))[path]

    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(URLError):  # the server does not listen yet
                experiments = [experiment["experiment_id"] for experiment in ask("experiments")]
                return {run["info"]["run_id"] for run in ask("runs", experiment_ids=experiments)}
            time.sleep(0.2)
        raise RuntimeError("workbench ui does not answer")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("old", metavar="OLD", help="the commit that makes the stores")
    parser.add_argument("new", metavar="NEW", nargs="?", default="HEAD", help="the commit that reads them")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this new folder, and keep it")
    args = parser.parse_args()
    folder = (args.keep or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=args.keep is None)
    began = time.monotonic()
    old, new = Commit("OLD", args.old, folder / "old"), Commit("NEW", args.new, folder / "new")

    def check_data_set(data_set: str) -> None:
        try:
            make_store(old, folder, data_set)
            check_store(old, new, folder, data_set)
        except Exception as error:
            check(data_set, False, repr(error))

    data_sets = list(RECIPES) if "WORKBENCH_DATA" in os.environ else ["digits"]
    with ThreadPoolExecutor(len(data_sets)) as pool:  # in parallel, because each run trains on one thread
        list(pool.map(check_data_set, data_sets))
    if args.keep is None:
        shutil.rmtree(folder)
    print(f"{len(failures)} failed, after {time.monotonic() - began:.0f} s")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
