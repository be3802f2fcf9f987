"""A sweep whose runs go to a real MLflow tracking server that proxies artifacts."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from experiments import Store
from sweeps import load_sweep, run
from sweeps.engines import local


def test_a_sweep_leaves_everything_on_the_server_that_is_named_by_then(
    tracking_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.warm_up()  # what workers are forked from may have started long before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server)
    sweep = load_sweep("digits", {"budget.trials": 2, "trainer.max_epochs": 2, "finalists": {}})
    result = run(sweep, store=Store.open(tmp_path / "store"), workers=2)
    client = MlflowClient(tracking_server)
    assert result.champion is not None
    (champion,) = result.champion["run_ids"]
    found = client.get_run(champion)
    assert (found.info.status, found.data.tags["workbench.outcome"]) == ("FINISHED", "finished")
    assert {"val/accuracy", "test/accuracy", "value"} <= found.data.metrics.keys()
    folder = Path(client.download_artifacts(champion, "", str(tmp_path)))
    with np.load(folder / "predictions.npz") as predictions:
        assert {"val_label", "test_label"} <= set(predictions.files)
    for name in ("config.yaml", "trace.jsonl", "checkpoints/last.ckpt", "model/MLmodel", "plots/curves.png"):
        assert (folder / name).is_file()
    assert client.list_artifacts(result.trials[0]["run_id"], "checkpoints") == []
    assert "removed.json" in {file.path for file in client.list_artifacts(result.trials[0]["run_id"])}
    assert not (tmp_path / "store" / "mlflow.db").exists()
    assert not list((tmp_path / "store" / "spool").iterdir())
