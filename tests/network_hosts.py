"""Runs one sweep on three hosts and cuts one off the network for 20 seconds: `unshare --net python FILE`.

Each host is a network namespace. A bridge without other connections joins them; PostgreSQL and MLflow's server listen
on the bridge. Needs root, and Debian's packages postgresql and iproute2. Takes one to two minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.tracking.runs import RunSummary, list_runs

NETWORK, SERVERS = "10.77.0", "10.77.0.1"
TRIALS, EPOCHS = 24, 60
CUT_OFF = 20  # seconds
SWEEP = ("sweep", "digits", "--budget.trials", str(TRIALS), "--trainer.max_epochs", str(EPOCHS), "--workers", "1")


class Host:
    """A network namespace with one cable to the bridge. A sleeping process keeps the namespace open."""

    def __init__(self, number: int) -> None:
        self._keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        while Path(f"/proc/{self._keeper.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            time.sleep(0.01)  # until the process has left our namespace
        self._cable = f"cable{number}"
        ip(f"link add {self._cable} master bridge up type veth peer name uplink netns {self._keeper.pid}")
        for words in ("link set lo up", "link set uplink up", f"address add {NETWORK}.{10 + number}/24 dev uplink"):
            subprocess.run([*self._enter, "ip", *words.split()], check=True)

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", "--net", "--target", str(self._keeper.pid), "--"]

    def start(self, *words: str | Path) -> "subprocess.Popen[str]":
        command = [*self._enter, sys.executable, "-m", "workbench", *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def plug(self, state: str) -> None:
        """Sets the host's cable `up` or `down`."""
        ip(f"link set {self._cable} {state}")

    def reaches_tracking(self) -> bool:
        """Returns whether the host can connect to the tracking server within two seconds."""
        connect = f"import socket; socket.create_connection(({SERVERS!r}, 5000), timeout=2)"
        return subprocess.run([*self._enter, sys.executable, "-c", connect], stderr=subprocess.DEVNULL).returncode == 0

    def end(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def main() -> None:
    for words in ("link set lo up", "link add bridge up type bridge", f"address add {SERVERS}/24 dev bridge"):
        ip(words)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # PostgreSQL's user needs access
        (data := folder / "postgres").mkdir()
        postgres = Postgres(data, "fsync=off", address=SERVERS, network=f"{NETWORK}.0/24")
        stack.callback(postgres.stop)
        os.environ["MLFLOW_TRACKING_URI"] = f"http://{SERVERS}:5000"
        tracking = subprocess.Popen(_tracking_server(folder), stdout=subprocess.DEVNULL, start_new_session=True)
        stack.callback(_kill_family, tracking)
        hosts = [Host(number) for number in range(3)]
        for host in hosts:
            stack.callback(host.end)
        store = Store.open(folder / "watching")
        _wait_for(lambda: bool(store.client.search_experiments()))
        commands = [
            host.start(*SWEEP, "--storage", postgres.url, "--store", folder / str(number), "--json")
            for number, host in enumerate(hosts)
        ]
        _wait_for(lambda: len(_trials(store, "running")) == 3)
        assert all(host.reaches_tracking() for host in hosts)
        hosts[0].plug("down")
        back_at = time.monotonic() + CUT_OFF
        assert [host.reaches_tracking() for host in hosts] == [False, True, True]
        time.sleep(back_at - time.monotonic())
        hosts[0].plug("up")
        documents = [json.loads(command.communicate()[0]) for command in commands]
        assert [command.returncode for command in commands] == [0, 0, 0]
        _check(store, documents)


def _tracking_server(folder: Path) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", SERVERS, "--port", "5000", "--workers", "1"]
    command += ["--allowed-hosts", f"{SERVERS}:5000", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    return [*command, "--artifacts-destination", str(folder / "artifacts")]


def _check(store: Store, documents: list[dict[str, Any]]) -> None:
    """Checks that all hosts report the same exact total, no run is RUNNING, and each run has every point once."""
    assert documents[0]["trials"] == documents[1]["trials"] == documents[2]["trials"]
    counting = [trial for trial in documents[0]["trials"] if trial["outcome"] in {"finished", "pruned", "failed"}]
    assert len(counting) == TRIALS
    assert not _trials(store, "running")
    finished = [run for run in _trials(store, "finished") if run.run_id in {trial["run_id"] for trial in counting}]
    for run in finished:
        points = store.client.get_metric_history(run.run_id, "val/accuracy")
        assert len({point.step for point in points}) == len(points) == EPOCHS, run.name
    print(f"{len(counting)} trials, {len(finished)} finished with {EPOCHS} points each, nothing running")


def _trials(store: Store, status: str) -> list[RunSummary]:
    return list_runs(store, kind="trial", status=status)


def _wait_for(condition: Callable[[], bool]) -> None:
    """Waits up to three minutes for the condition, also while a server does not answer yet."""
    deadline = time.monotonic() + 180
    while True:
        try:
            if condition():
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _kill_family(process: "subprocess.Popen[bytes]") -> None:
    for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        member.kill()
    process.wait()


if __name__ == "__main__":
    main()
