"""A sweep whose runs go to a real MLflow tracking server that proxies artifacts."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient


def test_a_sweep_leaves_everything_on_the_server(
    tracking_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workbench: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    words = ("--budget.trials", "2", "--trainer.max_epochs", "2", "--store", tmp_path / "store", "--json")
    printed = workbench("sweep", "digits", *words)
    assert printed.returncode == 0, printed.stderr
    client = MlflowClient(tracking_server)
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
