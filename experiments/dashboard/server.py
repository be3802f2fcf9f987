"""Starts MLflow's server on a store, reachable only from this machine."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress
from urllib.request import urlopen

from experiments.dashboard.links import DEFAULT_PORT, HOST, home
from experiments.errors import Interrupted
from experiments.process.interrupts import interruptible
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.log import LOG


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
    page = home(f"http://{HOST}:{port}")
    LOG.info(f"MLflow's dashboard: {page} (ready in a few seconds; Ctrl-C stops it)")
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
                _open_browser(f"http://{HOST}:{port}", page, server)
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


def _open_browser(url: str, page: str, server: "subprocess.Popen[bytes]") -> None:
    """Opens a page of the server at `url` once it answers; does nothing if there is no browser."""
    while server.poll() is None:
        with suppress(OSError), urlopen(f"{url}/health", timeout=1):
            webbrowser.open(page)
            return
        time.sleep(0.2)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    import psutil

    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in family:
        process.terminate()
    for process in psutil.wait_procs(family, timeout=5)[1]:
        process.kill()
