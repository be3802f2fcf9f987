"""How fast a model is served: our server with and without batching, stock MLflow, and LitServe where it is installed.

`python -m benchmarks.serving` prints the table of docs/serve.md: every server at 1 and at 32 clients, in turn.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np

from benchmarks.pairs import measure_pairs
from benchmarks.processes import Result

CLIENTS = 32
REQUESTS = 2000  # in a measurement
_BODIES = 256  # different images
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # of the model, in every server


def measure(name: str, goal: float, theirs: str, folder: Path, pairs: int) -> dict[str, Any]:
    """One row: our server against another one at 32 clients. Both stay up, and are asked in turn."""
    store, run_id = trained(folder)
    with ExitStack() as servers:
        ports = [servers.enter_context(serving(kind, store, run_id)) for kind in ("workbench", theirs)]
        ours, other = (partial(ask, port, folder, CLIENTS) for port in ports)
        row = {"name": name, "goal": goal, **measure_pairs(ours, other, pairs)}
    return row | {"met": row["ratio"] >= goal, "requests": REQUESTS, "clients": CLIENTS}


def trained(folder: Path) -> tuple[Path, str]:
    """A store in `folder` with the recipe's network, trained on some of Fashion-MNIST, and the id of its run.

    Also writes the bodies of requests: one image each.
    """
    from experiments import Store, load_config, run
    from lightning_modules import ImageDataModule

    made = folder / "served.json"
    if made.exists():
        return folder / "served", json.loads(made.read_text())
    few = {f"trainer.limit_{split}_batches": 200 for split in ("train", "val", "test")}
    own = {"trainer.max_epochs": 1, "trainer.threads": 1, "trainer.accelerator": "cpu"}
    config = load_config("fashion_mnist", own | few)
    result = run(config, store=Store.open(folder / "served"))
    data = ImageDataModule(config.data)
    data.setup()
    test = data.splits["test"]
    images = test.images[test.indices[:_BODIES]].squeeze(-1)
    np.save(folder / "images.npy", images)
    made.write_text(json.dumps(result.run_id))
    return folder / "served", result.run_id


@contextmanager
def serving(kind: str, store: Path, run_id: str) -> Iterator[int]:
    """Runs a server; its port, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workbench = ["-m", "workbench", "serve", run_id, "--store", str(store), "--port", str(port)]
    model = f"runs:/{run_id}/model"
    commands = {
        "workbench": workbench,
        "workbench without batching": [*workbench, "--batch", "1"],
        "mlflow": ["-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", model, "--port", str(port)],
        "litserve": ["-m", "benchmarks.litserve_server", model, str(port)],
    }
    environment = os.environ | _ONE_THREAD | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"}
    programs = Path(sys.executable).parent  # MLflow starts uvicorn by its name
    environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    if kind.startswith("workbench"):
        del environment["MLFLOW_TRACKING_URI"]
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, *commands[kind]]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(port, server)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode}: {server.args}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)


def ask(port: int, folder: Path, clients: int, requests: int = REQUESTS, kind: str = "json") -> Result:
    """The time of all requests, and p50 and p99 of one, seen by a client process."""
    words = [str(port), str(folder / "images.npy"), str(clients), str(requests), kind]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving_client", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the client failed:\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements of each (default: 5)")
    args = parser.parse_args()
    kinds = ["workbench", "workbench without batching", "mlflow", *(["litserve"] if find_spec("litserve") else [])]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        folder = Path(scratch)
        store, run_id = trained(folder)
        ports = {kind: servers.enter_context(serving(kind, store, run_id)) for kind in kinds}
        found: dict[tuple[str, int], list[Result]] = {}
        for number in range(args.rounds + 1):
            for kind, port in ports.items():
                for clients in (1, CLIENTS):
                    result = ask(port, folder, clients, REQUESTS if clients > 1 else REQUESTS // 8)
                    if number:  # the first round warms up
                        found.setdefault((kind, clients), []).append(result)
    print("| server | clients | requests a second | p50 ms | p99 ms |\n| --- | --- | --- | --- | --- |")
    for (kind, clients), results in found.items():
        rate, p50, p99 = (statistics.median(r[name] for r in results) for name in ("per_second", "p50_ms", "p99_ms"))
        print(f"| {kind} | {clients} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |")


if __name__ == "__main__":
    main()
