"""A recipe whose loss, optimizer, schedule, metrics, callback, augmentation and data come from a file beside it."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml

from experiments import RunResult, Store, load_config, run
from experiments.code.code_store import CodeStore
from experiments.reproduction import again
from experiments.reproduction.reproduce import Settings, reproduce
from lightning_modules import InputError
from tests.warm_python import start_warm

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own_parts")
    for name in ("own_parts.py", "own_parts.yaml"):
        shutil.copy(TESTS / name, folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, store: Store) -> Any:
    return run(load_config(str(folder / "own_parts.yaml")), store=store)


def test_all_of_them_take_part(trained: Any, store: Store) -> None:
    assert trained.outcome == "finished"
    metrics = trained.metrics
    assert {
        f"{split}/{name}" for split in ("train", "val", "test") for name in ("confidence", "ones", "cohen_kappa")
    } <= set(metrics)
    assert metrics["counted/epochs"] == 2
    assert metrics["train/ones"] == pytest.approx(182 / 1623, abs=0.01)  # 182 ones among the digits without 8
    assert 0 < metrics["val/confidence"] <= 1
    assert metrics["value"] == max(
        point.value for point in store.client.get_metric_history(trained.run_id, "val/confidence")
    )
    rates = [name for name in metrics if name.startswith("lr-")]
    assert len(rates) == 2  # of the group `output.*`, and of all others
    folder = Path(trained.artifact_uri.removeprefix("file://"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["monitor_mode"] == "max"
    told = json.loads((folder / "provenance.json").read_text())["code"]
    assert "_outside/0/own_parts.py" in CodeStore(store.folder).tree(told["commit"]).files


def test_the_run_reproduces_in_a_new_process_without_the_file(
    trained: Any, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(again, "subprocess", SimpleNamespace(Popen=start_warm, PIPE=subprocess.PIPE))
    (folder / "own_parts.py").write_text("raise ImportError('edited since')\n")
    try:
        assert reproduce(store, trained.run_id, Settings()).verdict == "bitwise"
    finally:
        shutil.copy(TESTS / "own_parts.py", folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.loss_args", {"smothing": 0.1}, r"model\.loss_args\.smothing: .*did you mean 'smoothing'"),
        ("optimizer.args", {"scal": 0.1}, r"optimizer\.args\.scal: .*did you mean 'scale'"),
        ("optimizer.args", {"lr": 0.1}, r"optimizer\.args\.lr: has a field of its own .*set optimizer\.lr"),
        ("optimizer.schedule.args", {"strat": 1}, r"optimizer\.schedule\.args\.strat: .*did you mean 'start'"),
        (
            "optimizer.groups",
            [{"match": "outptu.*", "lr": 1.0}],
            r"optimizer\.groups\[0\]\.match: matches no parameter",
        ),
        ("optimizer.groups", [{"lr": 1.0}], r"optimizer\.groups\[0\]: has no pattern"),
        ("data.source_args", {"lable": 1}, r"data\.source_args\.lable: .*did you mean 'label'"),
        (
            "data.augmentation.own",
            [{"kind": "own_parts.Invert", "args": {"shar": 1}}],
            r"data\.augmentation\.own\[0\]\.args\.shar: .*did you mean 'share'",
        ),
        (
            "trainer.metrics",
            [{"kind": "own_parts.Confidence", "args": {"pover": 1}}],
            r"trainer\.metrics\[0\]\.args\.pover: .*did you mean 'power'",
        ),
        (
            "trainer.callbacks",
            [{"kind": "own_parts.Counting", "args": {"strat": 1}}],
            r"trainer\.callbacks\[0\]\.args\.strat: .*did you mean 'start'",
        ),
        ("trainer.callbacks", ["own_parts.Confidence"], r"trainer\.callbacks\[0\]: makes Confidence, which is no"),
        (
            "trainer.monitor",
            "val/confidance",
            r"trainer\.monitor: no such metric on val .*did you mean 'val/confidence'",
        ),
        ("trainer.monitor", "val/ones", r"trainer\.monitor_mode: is missing: .*write min or max"),
        ("trainer.monitor_mode", "min", r"trainer\.monitor_mode: does not fit val/confidence .*write max"),
        ("model.loss", "own_parts.Smoth", r"model\.loss: own_parts has no 'Smoth' .*did you mean 'Smooth'"),
        ("model.freeze", ["*"], r"model\.freeze: leaves nothing to train"),
        ("model.freeze", ["cnov.*"], r"model\.freeze\[0\]: matches no parameter"),
        ("model.weights", "no_such_run", r"model\.weights: no such run"),
    ],
)
def test_what_is_misspelt_is_refused_before_a_run_exists(
    folder: Path, store: Store, path: str, value: Any, message: str
) -> None:
    before = len(store.client.search_runs(["0", "1"]))
    with pytest.raises(InputError, match=rf"^{message}"):
        run(load_config(str(folder / "own_parts.yaml"), {path: value}), store=store)
    assert len(store.client.search_runs(["0", "1"])) == before


@pytest.mark.parametrize(
    ("callback", "args"),
    [
        ("EarlyStopping", {"monitor": "val/loss", "patience": 1, "min_delta": 10.0}),
        ("EMAWeightAveraging", {"decay": 0.9}),
    ],
)
def test_callbacks_of_lightning_work_and_reproduce(
    store: Store, callback: str, args: dict[str, Any], rerun_in_process: None
) -> None:
    entry = {"kind": f"pytorch_lightning.callbacks.{callback}", "args": args}
    config = load_config("digits", {"trainer.callbacks": [entry], "trainer.max_epochs": 3, "trainer.threads": 1})
    result = run(config, store=store)
    assert result.outcome == "finished"
    points = store.client.get_metric_history(result.run_id, "val/loss")
    assert len(points) == (2 if callback == "EarlyStopping" else 3)
    assert reproduce(store, result.run_id, Settings()).verdict == "bitwise"


def test_a_callback_that_is_passed_as_an_object_is_told(store: Store, rerun_in_process: None) -> None:
    class Noisy(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for weights in pl_module.parameters():
                weights.data.mul_(1.5)

    config = load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1})
    result = run(config, store=store, callbacks=[Noisy()])
    tags = store.client.get_run(result.run_id).data.tags
    assert "Noisy" in tags["workbench.unrecorded"]
    assert tags["mlflow.note.content"].startswith("**Cannot be run again from its record alone:**\n\n- ")
    verdict = reproduce(store, result.run_id, Settings())
    assert verdict.verdict == "different"
    assert any("Noisy: given as an object" in cause.detail for cause in verdict.causes)


def test_a_run_starts_from_the_weights_of_another_and_keeps_some_frozen(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1}), name="giver", store=store)
    fields = {
        "model.weights": "giver",
        "model.freeze": ["conv.*", "hidden.*"],
        "trainer.max_epochs": 1,
        "trainer.threads": 1,
    }
    second = run(load_config("digits", fields), store=store)
    assert "starts from all 6 tensors of" in capsys.readouterr().err
    one, two = weights_of(first), weights_of(second)
    changed = {name for name in one if not np.array_equal(one[name], two[name])}
    assert changed == {"network.output.weight", "network.output.bias"}


def weights_of(result: RunResult) -> dict[str, Any]:
    checkpoint = Path(result.artifact_uri.removeprefix("file://")) / "checkpoints" / "last.ckpt"
    return {name: values.numpy() for name, values in torch.load(checkpoint, weights_only=True)["state_dict"].items()}
