"""What one tracked run leaves in the store, read with stock MLflow, torch, NumPy and YAML."""

import hashlib
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytorch_lightning as pl
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.datasets import load_digits

from experiments import ExperimentConfig, RunResult, Store, load_config, run, runner
from experiments.errors import Interrupted
from experiments.pictures import plots
from experiments.results.class_scores import class_scores
from experiments.runner import read_test
from experiments.tracking import system_metrics
from experiments.tracking.runs import find_runs
from experiments.training.epochs import Epoch
from experiments.training.trace import as_scores, tensors_sha256
from lightning_modules import ImageClassifier, ImageDataModule
from lightning_modules.metrics import METRICS
from tests.warm_python import WarmPython

EPOCH_METRICS = ("train/loss", "train/accuracy", *(f"val/{name}" for name in METRICS))
STEPS_AN_EPOCH = 41  # 1,797 digits; 360 test, 144 val, 1,293 train, in batches of 32


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


def history(client: MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines())
    return [line for line in lines if line["stage"] == "epoch"]


def files_of(client: MlflowClient, run: Run, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run.info.run_id, folder):
        found |= files_of(client, run, item.path) if item.is_dir else {item.path}
    return found


# Params, tags, status.


def test_params_are_every_field_of_the_config_by_its_dotted_path(first_run: Run, first_folder: Path) -> None:
    fields = leaves(yaml.safe_load((first_folder / "config.yaml").read_text()))
    assert set(first_run.data.params) == set(fields)


@pytest.mark.parametrize(
    ("param", "text"),
    [
        ("optimizer.lr", "0.003"),
        ("trainer.threads", "1"),
        ("data.path", "null"),
        ("model.network_args", "{}"),
        ("optimizer.schedule.kind", "constant"),
    ],
)
def test_a_param_reads_as_in_yaml(first_run: Run, param: str, text: str) -> None:
    assert first_run.data.params[param] == text


def test_a_finished_run_says_so(first_run: Run) -> None:
    assert first_run.info.status == "FINISHED"
    assert first_run.data.tags["workbench.outcome"] == "finished"
    assert first_run.data.tags["workbench.kind"] == "train"
    assert "workbench.error" not in first_run.data.tags


def test_the_commit_is_tagged(first_run: Run, first_folder: Path) -> None:
    commit = first_run.data.tags["mlflow.source.git.commit"]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert json.loads((first_folder / "provenance.json").read_text())["git"]["commit"] == commit


def test_the_experiment_is_the_config_s(client: MlflowClient, first_run: Run) -> None:
    assert client.get_experiment(first_run.info.experiment_id).name == "digits"


# Metrics.


@pytest.mark.parametrize("name", [*EPOCH_METRICS, "throughput/images_per_second"])
def test_an_epoch_has_one_point_at_its_number(client: MlflowClient, first_run: Run, name: str) -> None:
    assert [step for step, _ in history(client, first_run, name)] == [1, 2, 3]


def test_the_optimizer_steps_so_far_are_a_metric(client: MlflowClient, first_run: Run) -> None:
    progress = history(client, first_run, "progress/optimizer_steps")
    assert progress == [(epoch, STEPS_AN_EPOCH * epoch) for epoch in (1, 2, 3)]


@pytest.mark.parametrize("name", [*(f"test/{name}" for name in METRICS), "value"])
def test_test_metrics_and_value_are_logged_once_at_the_last_epoch(
    client: MlflowClient, first_run: Run, name: str
) -> None:
    assert [step for step, _ in history(client, first_run, name)] == [3]


def test_a_run_begun_in_optimizer_steps_stays_in_them(scratch_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(epoch: Epoch) -> None:
        raise Interrupted("SIGINT")

    config = load_config("digits", {"trainer.max_epochs": 2, "trainer.threads": 1})
    with monkeypatch.context() as earlier:
        earlier.setattr(runner, "IN_EPOCHS", {})  # as runs of earlier versions had no such tag
        with pytest.raises(Interrupted):
            run(config, store=scratch_store, name="earlier", observers=[interrupt])
    (stopped,) = find_runs(scratch_store, "attributes.run_name = 'earlier'")
    result = run(config, store=scratch_store, resume=stopped.info.run_id)
    curve = history(scratch_store.client, stopped, "val/accuracy")
    assert [step for step, _ in curve] == [STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH]
    assert [step for step, _ in history(scratch_store.client, stopped, "test/accuracy")] == [2 * STEPS_AN_EPOCH]
    latest = scratch_store.client.get_run(result.run_id).data.metrics
    assert latest["val/accuracy"] == curve[-1][1]
    assert "progress/optimizer_steps" not in latest


def test_system_metrics_begin_after_a_minute(
    first_run: Run, scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [name for name in first_run.data.metrics if name.startswith("system/")]
    monkeypatch.setattr(system_metrics, "FROM", 0.0)
    config = load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1})
    longer = run(config, store=scratch_store)
    measured = scratch_store.client.get_run(longer.run_id).data.metrics
    assert 0 <= measured["system/cpu_utilization_percentage"] <= 100  # psutil gives 0 the first time
    assert 0 < measured["system/system_memory_usage_percentage"] < 100
    share = measured["system/system_memory_usage_megabytes"] * 1e6 / psutil.virtual_memory().total
    assert share == pytest.approx(measured["system/system_memory_usage_percentage"] / 100, abs=0.001)


def test_the_network_learned(first_run: Run) -> None:
    assert first_run.data.metrics["test/accuracy"] > 0.9


# Data inputs.


def digits_sha256() -> str:
    """By the rule that `ImageDataset.sha256` states, from scikit-learn's arrays."""
    digits = load_digits()
    digest = hashlib.sha256(b"('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')")
    digest.update(b"train (1797, 8, 8, 1) |u1" + digits.images.astype(np.uint8).tobytes())
    digest.update(b"train (1797,) <i8" + digits.target.astype(np.int64).tobytes())
    return digest.hexdigest()


def digits_module() -> ImageDataModule:
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    return data


def test_the_description_holds_the_scores_and_what_differs_from_the_defaults(first_run: Run) -> None:
    first, _, *table = first_run.data.tags["mlflow.note.content"].splitlines()
    names = [f"{split}/{name}" for split in ("val", "test") for name in METRICS]
    assert first == ", ".join(f"**{name} {first_run.data.metrics[name]:.4f}**" for name in names)
    rows = {
        "| experiment | digits |",
        "| optimizer.lr | 0.003 |",
        "| trainer.max_epochs | 3 |",
        "| trainer.threads | 1 |",
    }
    assert set(table[2:]) == rows


def test_the_data_set_s_full_hash_is_tagged(first_run: Run) -> None:
    assert first_run.data.tags["workbench.data_sha256"] == digits_sha256()


def test_each_split_is_a_data_input_with_a_full_hash_of_its_own(first_run: Run) -> None:
    expected = {}
    for split, subset in digits_module().splits.items():
        digest = hashlib.sha256(f"{digits_sha256()} {split}".encode() + subset.indices.tobytes())
        expected[split] = digest.hexdigest()
    tags = [{tag.key: tag.value for tag in item.tags} for item in first_run.inputs.dataset_inputs]
    assert {tag["mlflow.data.context"]: tag["workbench.sha256"] for tag in tags} == expected


def test_a_data_input_s_digest_is_the_start_of_its_hash(first_run: Run) -> None:
    for item in first_run.inputs.dataset_inputs:
        sha256 = next(tag.value for tag in item.tags if tag.key == "workbench.sha256")
        assert len(sha256) == 64
        assert sha256.startswith(item.dataset.digest)
        assert json.loads(item.dataset.profile)["sha256"] == sha256


# Artifacts.


def test_the_artifacts_are_those_of_the_design(client: MlflowClient, first_run: Run) -> None:
    assert files_of(client, first_run) == {
        "config.yaml",
        "provenance.json",
        "uncommitted.patch",
        "requirements.txt",
        "record.json",
        "trace.jsonl",
        "checkpoints/last.ckpt",
        "data_report.json",
        "plots/curves.png",
        "plots/data_report.png",
        "plots/confusion_matrix_val.png",
        "plots/confusion_matrix_test.png",
        "plots/class_scores_val.png",
        "plots/class_scores_test.png",
        "plots/worst_mistakes_val.png",
        "plots/worst_mistakes_test.png",
        "predictions.npz",
        "class_scores.json",
        "network.txt",
        "model/MLmodel",
        "model/artifacts/facts.json",
        "model/artifacts/program.pt2",
        "model/conda.yaml",
        "model/input_example.json",
        "model/python_env.yaml",
        "model/requirements.txt",
        "model/served_classifier.py",
        "model/serving_input_example.json",
    }


def test_every_plot_shows_what_the_run_left(first_folder: Path, tmp_path: Path) -> None:
    """Drawn again from the trace, the predictions and the data, each is the same; what is drawn: results/test_plots."""
    data = digits_module()
    history = [as_scores(line) for line in epochs_of(first_folder)]
    plots.plot_curves(history, ExperimentConfig().trainer, tmp_path / "curves.png")
    plots.plot_data_report(data.report, data.splits, tmp_path / "data_report.png")
    saved, names = np.load(first_folder / "predictions.npz"), data.class_names
    for split in ("val", "test"):
        label, target, probabilities = (saved[f"{split}_{name}"] for name in ("label", "target", "probabilities"))
        plots.plot_confusion(target, label, names, f"first: {split}", tmp_path / f"confusion_matrix_{split}.png")
        plots.plot_mistakes(data.splits[split], probabilities, names, split, tmp_path / f"worst_mistakes_{split}.png")
        scores = [row for row in class_scores(saved, names) if row["split"] == split]
        plots.plot_class_scores(scores, f"first: {split}", tmp_path / f"class_scores_{split}.png")
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name: path.read_bytes() == drawn[path.name] for path in (first_folder / "plots").iterdir()} == (
        dict.fromkeys(drawn, True)
    )


def test_config_yaml_is_a_recipe_of_the_same_run(first_folder: Path) -> None:
    overrides = {"trainer.max_epochs": 3, "trainer.threads": 1}
    assert load_config(str(first_folder / "config.yaml")) == load_config("digits", overrides)


def test_the_checkpoint_loads_without_pickle_and_holds_the_last_weights(first_folder: Path) -> None:
    checkpoint = torch.load(first_folder / "checkpoints" / "last.ckpt", weights_only=True)
    classifier = ImageClassifier(ExperimentConfig().model.build((1, 8, 8), 10))
    classifier.load_state_dict(checkpoint["state_dict"])
    assert tensors_sha256(classifier.state_dict()) == epochs_of(first_folder)[-1]["weights"]
    assert checkpoint["global_step"] == 3 * STEPS_AN_EPOCH


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_agree_with_the_logged_accuracy(first_run: Run, first_folder: Path, split: str) -> None:
    saved = np.load(first_folder / "predictions.npz", allow_pickle=False)
    label, probabilities = saved[f"{split}_label"], saved[f"{split}_probabilities"]
    assert (label == probabilities.argmax(axis=1)).all()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (label == saved[f"{split}_target"]).mean() == pytest.approx(first_run.data.metrics[f"{split}/accuracy"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_are_scored_by_the_predictions(first_run: Run, first_folder: Path, split: str) -> None:
    saved = np.load(first_folder / "predictions.npz", allow_pickle=False)
    label, target = saved[f"{split}_label"], saved[f"{split}_target"]
    shares = {str(digit): (label[target == digit] == digit).mean() for digit in range(10)}
    table = json.loads((first_folder / "class_scores.json").read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    own = {row["class"]: row for row in rows if row["split"] == split}
    assert {name: row["accuracy"] for name, row in own.items()} == pytest.approx(shares)
    assert sum(row["images"] for row in own.values()) == len(target)
    assert np.mean([row["f1"] for row in own.values()]) == pytest.approx(first_run.data.metrics[f"{split}/macro_f1"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_follow_the_split_s_own_order(first_folder: Path, split: str) -> None:
    subset = digits_module().splits[split]
    target = np.load(first_folder / "predictions.npz")[f"{split}_target"]
    assert (target == load_digits().target[subset.indices]).all()


# Which weights count.


class RuinLastEpoch(pl.Callback):
    """Sets all weights to 0 as the last epoch begins: from there on the network answers one class for every image."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            for weights in pl_module.parameters():
                weights.data.zero_()


@pytest.fixture(scope="module")
def best_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    """Three epochs with `weights: best`; the last one is far the worst."""
    config = load_config("digits", {"trainer": {"max_epochs": 3, "weights": "best"}})
    store = Store.open(tmp_path_factory.mktemp("best"))
    result = run(config, store=store, callbacks=[RuinLastEpoch()])
    assert result.metrics["val/accuracy"] < 0.5
    return result, Path(result.artifact_uri.removeprefix("file://"))


def best_epoch(folder: Path) -> dict[str, Any]:
    return max(epochs_of(folder), key=lambda epoch: float.fromhex(epoch["metrics"]["val/accuracy"]))


def test_weights_best_gives_the_best_epoch_s_value(best_run: tuple[RunResult, Path]) -> None:
    result, folder = best_run
    assert result.value == result.metrics["value"] == float.fromhex(best_epoch(folder)["metrics"]["val/accuracy"])


def test_weights_best_predicts_with_the_best_epoch_s_weights(best_run: tuple[RunResult, Path]) -> None:
    result, folder = best_run
    saved = np.load(folder / "predictions.npz")
    assert (saved["val_label"] == saved["val_target"]).mean() == pytest.approx(result.value)
    assert (saved["test_label"] == saved["test_target"]).mean() == pytest.approx(result.metrics["test/accuracy"])
    assert result.metrics["test/accuracy"] > 0.8


def test_weights_best_keeps_the_best_epoch_s_checkpoint(best_run: tuple[RunResult, Path]) -> None:
    _, folder = best_run
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint["global_step"] == best_epoch(folder)["step"]


def test_weights_best_logs_the_best_epoch_s_model(
    best_run: tuple[RunResult, Path], load_model: Callable[[Path], Any]
) -> None:
    _, folder = best_run
    subset = digits_module().splits["test"]
    answer = load_model(folder / "model").predict(subset.images[subset.indices][..., 0])
    assert (answer["label"] == np.load(folder / "predictions.npz")["test_label"]).all()


def test_macro_f1_may_be_monitored_and_rare_classes_may_count_more(scratch_store: Store) -> None:
    overrides = {"trainer.monitor": "val/macro_f1", "model.class_weights": "balanced", "trainer.max_epochs": 1}
    result = run(load_config("digits", overrides), store=scratch_store, read_test=False)
    assert result.value == result.metrics["val/macro_f1"] > 0.5


# A run without test, and the test read later.


def test_without_read_test_nothing_of_test_is_left(scratch_store: Store) -> None:
    config = load_config("digits", {"trainer.max_epochs": 1})
    result = run(config, store=scratch_store, read_test=False)
    folder = Path(result.artifact_uri.removeprefix("file://"))
    assert {name for name in result.metrics if name.startswith("test/")} == set()
    assert set(np.load(folder / "predictions.npz")) == {"val_label", "val_probabilities", "val_target"}
    assert not (folder / "model").exists()


def test_threads_left_open_are_recorded_as_the_number_that_they_were(scratch_store: Store) -> None:
    config = load_config("digits", {"trainer.max_epochs": 1})
    assert config.trainer.threads is None
    result = run(config, store=scratch_store, read_test=False)
    recorded = load_config(result.artifact_uri.removeprefix("file://") + "/config.yaml")
    assert recorded.trainer.threads == torch.get_num_threads()
    params = scratch_store.client.get_run(result.run_id).data.params
    assert params["trainer.threads"] == str(recorded.trainer.threads)


def test_read_test_later_gives_what_reading_it_at_once_gives(scratch_store: Store) -> None:
    config = load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1})
    at_once = run(config, store=scratch_store)
    later = run(config, store=scratch_store, read_test=False)
    trained = scratch_store.client.get_run(later.run_id).info
    waited = 3_600_000  # milliseconds: as if the test came an hour later
    scratch_store.client.set_terminated(later.run_id, "FINISHED", trained.end_time - waited)
    read_test(scratch_store, later.run_id)
    ended = scratch_store.client.get_run(later.run_id)
    assert 0 <= ended.info.end_time - (trained.end_time - waited) < waited  # as long as the test took
    assert ended.data.metrics["test/loss"] == at_once.metrics["test/loss"]
    assert ended.info.status == "FINISHED"
    (point,) = history(scratch_store.client, ended, "test/loss")
    assert point[0] == 1


# The user's own arrays.


def easy_images(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Three classes, told apart by which third of the rows is bright."""
    generator = np.random.default_rng(seed)
    labels = np.arange(90) % 3
    images = generator.integers(0, 60, (90, *shape), dtype=np.uint8)
    third = shape[0] // 3
    for image, label in zip(images, labels, strict=True):
        image[label * third : (label + 1) * third] += 150
    return {"x": images, "y": labels}


@pytest.mark.parametrize("shape", [(28, 28), (32, 32, 3)], ids=["gray", "colour"])
def test_arrays_of_the_user_train_and_are_served(
    shape: tuple[int, ...], tmp_path: Path, scratch_store: Store, load_model: Callable[[Path], Any]
) -> None:
    arrays = easy_images(shape)
    np.savez(tmp_path / "own.npz", **arrays)
    overrides = {"data.path": str(tmp_path / "own.npz"), "trainer.max_epochs": 2, "data.batch_size": 8}
    result = run(load_config("arrays", overrides), store=scratch_store)
    assert result.metrics["test/accuracy"] > 0.9
    model = load_model(Path(result.artifact_uri.removeprefix("file://")) / "model")
    unseen = easy_images(shape, seed=1)
    assert (model.predict(unseen["x"])["label"] == unseen["y"]).mean() > 0.9


# Failure and interruption.


def test_a_loss_that_is_nan_fails_the_run(scratch_store: Store) -> None:
    config = load_config("digits", {"optimizer.kind": "sgd", "optimizer.lr": 1e30, "experiment": "diverging"})
    result = run(config, store=scratch_store)
    assert (result.outcome, result.value) == ("failed", None)
    assert "optimizer.lr" in result.error
    experiment = scratch_store.client.get_experiment_by_name("diverging")
    (failed,) = scratch_store.client.search_runs([experiment.experiment_id])
    assert failed.info.status == "FAILED"
    assert failed.data.tags["workbench.outcome"] == "failed"
    assert "loss is nan after epoch 1" in failed.data.tags["workbench.error"]


def the_run(store: Path) -> Run:
    (found,) = MlflowClient(f"sqlite:///{store}/mlflow.db").search_runs(["1"])
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_an_interrupted_run_is_killed_with_its_metrics_and_checkpoint_in_place(
    signum: signal.Signals, tmp_path: Path, start_long_training: Callable[[Path], WarmPython]
) -> None:
    store = tmp_path / "store"
    process = start_long_training(store)
    process.send_signal(signum)
    _, stderr = process.communicate()
    interrupted = the_run(store)
    assert interrupted.info.status == "KILLED"
    assert interrupted.data.tags["workbench.outcome"] == "interrupted"
    folder = Path(interrupted.info.artifact_uri.removeprefix("file://"))
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= STEPS_AN_EPOCH
    logged = history(MlflowClient(f"sqlite:///{store}/mlflow.db"), interrupted, "val/loss")
    traced = [float.fromhex(epoch["metrics"]["val/loss"]) for epoch in epochs_of(folder)]
    assert len(logged) >= len(traced) - 1  # the signal may fall between the two
    assert [value for _, value in logged][: len(traced)] == traced[: len(logged)]
    assert "Traceback" not in stderr
    assert process.returncode == 130


def test_a_run_whose_process_was_killed_is_closed_as_died_by_the_next(
    tmp_path: Path, start_long_training: Callable[[Path], WarmPython]
) -> None:
    store = tmp_path / "store"
    process = start_long_training(store)
    process.kill()
    process.communicate()
    killed = the_run(store)
    assert killed.info.status == "RUNNING"
    run(load_config("digits", {"trainer.max_epochs": 1}), store=Store.open(store))
    closed = MlflowClient(f"sqlite:///{store}/mlflow.db").get_run(killed.info.run_id)
    assert closed.info.status == "FAILED"
    assert closed.data.tags["workbench.outcome"] == "died"
    assert str(process.pid) in closed.data.tags["workbench.error"]
