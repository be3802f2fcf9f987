"""`workbench ui`: MLflow's server on the store, for this machine alone."""

import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from experiments.dashboard.server import serve
from experiments.tracking.store import Store
from lightning_modules import InputError
from tests.warm_python import WarmPython


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(port: int, path: str, host: str, *, post: bytes | None = None, origin: str | None = None) -> int:
    """The HTTP status that 127.0.0.1 answers a request with; 0 where nobody answers."""
    headers = {"Host": host, "Content-Type": "application/json"} | ({"Origin": origin} if origin else {})
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", post, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0


@pytest.fixture
def dashboard(
    digits_store: Path, port: int, start_workbench: Callable[..., WarmPython], poll: Callable[..., None]
) -> WarmPython:
    """`workbench ui`, answering."""
    process = start_workbench("ui", "--port", str(port), "--store", digits_store)

    def answers() -> bool:
        assert process.poll() is None, process.communicate()
        return status(port, "/health", f"127.0.0.1:{port}") == 200

    poll(answers, seconds=120)
    return process


def test_the_dashboard_answers_this_machine_alone(dashboard: WarmPython, port: int) -> None:
    assert status(port, "/", f"localhost:{port}") == 200
    assert status(port, "/", "attacker.example") == 403
    assert status(port, "/", "10.attacker.com") == 403
    here, create = f"127.0.0.1:{port}", "/api/2.0/mlflow/experiments/create"
    assert status(port, create, here, post=b'{"name": "theirs"}', origin="http://attacker.example") == 403
    search = "/api/2.0/mlflow/experiments/search"
    assert status(port, search, here, post=b'{"max_results": 1}', origin=f"http://{here}") == 200
    family = psutil.Process(dashboard.pid).children(recursive=True)
    connections = [connection for process in family for connection in process.net_connections()]
    listening = [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}
    assert not [word for process in family for word in process.cmdline() if "mlflow.db" in word]  # as a password would


def test_ctrl_c_ends_the_dashboard_and_every_process_of_it(dashboard: WarmPython) -> None:
    family = psutil.Process(dashboard.pid).children(recursive=True)
    assert family
    try:
        dashboard.send_signal(signal.SIGINT)
        _, stderr = dashboard.communicate()
        assert dashboard.returncode == 0, stderr
        assert [process for process in family if process.is_running()] == []
    finally:
        for process in family:
            if process.is_running():
                process.kill()


def test_a_port_in_use_is_refused(scratch_store: Store, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(InputError, match=f"--port.*{port}") as refused:
            serve(scratch_store, port)
    words = refused.value.remedy.split()
    offered = int(words[words.index("--port") + 1].rstrip(","))
    assert offered > port
    with socket.socket() as free:
        free.bind(("127.0.0.1", offered))
