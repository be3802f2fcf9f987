"""A sweep whose runs go to a real MLflow tracking server that proxies artifacts."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from mlflow import MlflowClient

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server(tmp_path: Path, poll: Callable[..., None]) -> Iterator[str]:
    """The URL of a server of its own, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        try:
            with urlopen(f"{url}/health") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    poll(is_up, 120)
    yield url
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_sweep_leaves_everything_on_the_server(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workbench: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    words = ("--budget.trials", "2", "--trainer.max_epochs", "2", "--store", tmp_path / "store", "--json")
    printed = workbench("sweep", "digits", *words)
    assert printed.returncode == 0, printed.stderr
    client = MlflowClient(server)
    (champion,) = json.loads(printed.stdout)["champion"]["run_ids"]
    run = client.get_run(champion)
    assert (run.info.status, run.data.tags["workbench.outcome"]) == ("FINISHED", "finished")
    assert {"val/accuracy", "test/accuracy", "value"} <= run.data.metrics.keys()
    folder = Path(client.download_artifacts(champion, "", str(tmp_path)))
    with np.load(folder / "predictions.npz") as predictions:
        assert {"val_label", "test_label"} <= set(predictions.files)
    for name in ("config.yaml", "trace.jsonl", "checkpoints/last.ckpt", "model/MLmodel", "plots/curves.png"):
        assert (folder / name).is_file()
    assert not (tmp_path / "store" / "mlflow.db").exists()
    assert not list((tmp_path / "store" / "spool").iterdir())
