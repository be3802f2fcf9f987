"""Starts MLflow's server on a store, reachable only from this machine, and builds links to its pages."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from experiments.errors import Interrupted
from experiments.process.interrupts import interruptible
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.log import LOG

HOST = "127.0.0.1"
DEFAULT_PORT = 5000


def run_url(store: Store, experiment_id: str, run_id: str) -> str:
    """Returns the dashboard's page of this run. Unless the store is on a server, it needs a running `workbench ui`."""
    return f"{_base(store)}/#/experiments/{experiment_id}/runs/{run_id}"


def compare_url(store: Store, experiment_ids: list[str], run_ids: list[str]) -> str:
    """Returns the dashboard's page that compares exactly these runs."""
    ids = ",".join(f'"{run_id}"' for run_id in run_ids)
    experiments = ",".join(f'"{experiment_id}"' for experiment_id in experiment_ids)
    return f"{_base(store)}/#/compare-runs?" + urlencode({"runs": f"[{ids}]", "experiments": f"[{experiments}]"})


def table_of_children(run_id: str, metric: str, params: Sequence[str], *, lowest_first: bool) -> dict[str, Any]:
    """Returns a table view for `TrackedRun.share_view`: the run's children, best first, with the given columns."""
    columns = [f"metrics.`{metric}`", *(f"params.`{name}`" for name in params), "tags.`workbench.outcome`"]
    return {
        "searchFilter": f"tags.mlflow.parentRunId = '{run_id}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": lowest_first,
        "selectedColumns": columns,
    }


def view_url(store: Store, experiment_id: str, run_id: str) -> str:
    """Returns the dashboard's page with the view that this run shares."""
    return f"{_base(store)}/#/experiments/{experiment_id}/runs?viewStateShareKey={run_id}"


def _base(store: Store) -> str:
    return store.address if store.is_served else f"http://{HOST}:{DEFAULT_PORT}"


def serve(store: Store, port: int = DEFAULT_PORT, *, browser: bool = False) -> None:
    """Runs MLflow's server on loopback until it is interrupted: one worker, no jobs, no foreign Host header.

    `browser`: opens the dashboard in the user's browser once it answers. Raises InputError if the port is in use.
    """
    if store.is_served:
        raise InputError("MLFLOW_TRACKING_URI", store.address, "is already a server", "open that address")
    store.ensure_database()
    store.check_schema()  # MLflow's server would upgrade an old database by itself
    if (reason := _listen_error(port)) is not None:
        raise InputError("--port", port, f"cannot be used: {reason}", f"add --port {_free_port(port)}, which is free")
    LOG.info(f"MLflow's dashboard: http://{HOST}:{port} (ready in a few seconds; Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", (store.folder / "artifacts").as_uri()]
    command += ["--allowed-hosts", f"localhost:{port},{HOST}:{port}", "--uvicorn-opts", "--log-level warning"]
    database = {"MLFLOW_BACKEND_STORE_URI": store.tracking_uri}  # not an argument: anyone can list those
    safe = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with interruptible():
        # In its own session: Ctrl-C reaches only this process, which then stops the server and all its workers.
        server = subprocess.Popen(command, env=os.environ | safe | database, start_new_session=True)
        try:
            if browser:
                _open_browser(f"http://{HOST}:{port}", server)
            code = server.wait()
        except Interrupted:
            _stop(server)
            return
    raise RuntimeError(f"MLflow's server stopped unexpectedly with exit code {code}")


def _listen_error(port: int) -> str | None:
    """Returns why a server cannot listen on this port; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return str(error)
    return None


def _free_port(taken: int) -> int:
    """Returns the next free port after `taken`, or from the default port on if `taken` is not a usable port."""
    first = taken if 1024 <= taken < 65_000 else DEFAULT_PORT - 1
    return next(port for port in range(first + 1, 65_536) if _listen_error(port) is None)


def _open_browser(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Opens the page once the server answers; does nothing if there is no browser."""
    while server.poll() is None:
        with suppress(OSError), urlopen(f"{url}/health", timeout=1):
            webbrowser.open(url)
            return
        time.sleep(0.2)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    import psutil

    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in family:
        process.terminate()
    for process in psutil.wait_procs(family, timeout=5)[1]:
        process.kill()
