"""Tasks of a stranger's: tracked, resumed and reproduced like images, and refused where they cannot be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import ExperimentConfig, RunResult, Store, run
from experiments.comparison.compare import compare
from experiments.errors import Interrupted
from experiments.recipe import build, with_overrides
from experiments.reproduction.reproduce import Settings, reproduce
from experiments.serving.predict import predict
from experiments.tasks import prepare
from experiments.tracking.runs import RunSummary
from experiments.training.epochs import Epoch
from experiments.training.trace import tensors_sha256
from lightning_modules import InputError

MODULES = "tests.experiments.tasks.modules_as_people_write_them"
SHORT = {"trainer.max_epochs": 3, "trainer.threads": 1, "trainer.monitor_mode": "min"}


def config(module: str, data: str | None = "Line", monitor: str = "val_loss", **fields: Any) -> ExperimentConfig:
    named = {"model.module": f"{MODULES}.{module}", "trainer.monitor": monitor, **SHORT}
    if data is not None:
        named["data.module"] = f"{MODULES}.{data}"
    more = {name.replace("__", "."): value for name, value in fields.items()}
    return build(ExperimentConfig, with_overrides({}, named | more))


def folder(result: RunResult) -> Path:
    return Path(result.artifact_uri.removeprefix("file://"))


def epochs(result: RunResult) -> list[Mapping[str, Any]]:
    lines = [json.loads(line) for line in (folder(result) / "trace.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == "epoch"]


@pytest.fixture(autouse=True)
def _nothing_tried_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_logged", {})


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize(
    ("module", "data", "monitor"),
    [
        pytest.param("Fit", "Line", "val_loss", id="a module of Lightning's introduction"),
        pytest.param("a_function", "Line", "val_loss", id="a function that makes one"),
        pytest.param("Manual", "Line", "val_loss", id="manual optimization"),
        pytest.param("TwoOptimizers", "OnlyTrain", "judged", id="two optimizers, no validation"),
        pytest.param("Fit", "OnlyTrain", "train_loss", id="no validation"),
        pytest.param("LogsBothWays", "Line", "fit", id="a metric of steps and epochs"),
        pytest.param("Fit", "Stream", "val_loss", id="a stream without an index"),
    ],
)
def test_a_strangers_module_resumes_and_reproduces_bitwise(
    store: Store, rerun_in_process: None, module: str, data: str, monitor: str
) -> None:
    whole = run(config(module, data, monitor), store=store)
    assert whole.outcome == "finished"
    assert whole.value == float.fromhex(epochs(whole)[-1]["metrics"][monitor])

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(config(module, data, monitor), store=store, observers=[stop])
    (latest,) = store.client.search_runs(["1"], max_results=1)
    resumed = run(config(module, data, monitor), store=store, resume=latest.info.run_id)
    assert epochs(resumed) == epochs(whole)
    assert reproduce(store, whole.run_id, Settings()).verdict == "bitwise"


def test_all_optimizers_are_in_the_trace(store: Store) -> None:
    result = run(config("TwoOptimizers", "OnlyTrain", "judged"), store=store)
    held = torch.load(folder(result) / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(held["optimizer_states"]) == 2
    assert epochs(result)[-1]["optimizer"] == tensors_sha256(held["optimizer_states"])


def test_a_module_on_the_workbench_s_images(store: Store, rerun_in_process: None) -> None:
    wide = config("Wide", None, "val/accuracy", trainer__monitor_mode=None)
    result = run(wide, store=store)
    assert result.value is not None
    assert result.value > 0.8
    assert (folder(result) / "data_report.json").exists()
    assert epochs(result)[0]["order"]  # the order of the images is known
    assert reproduce(store, result.run_id, Settings()).verdict == "bitwise"


def test_metrics_of_steps_have_a_name_of_their_own(store: Store) -> None:
    result = run(config("LogsBothWays", monitor="fit", trainer__log_every_n_steps=1), store=store)
    history = store.client.get_metric_history(result.run_id, "fit_step")
    assert [point.step for point in history] == list(range(12))  # 3 epochs of 4 batches
    assert [point.step for point in store.client.get_metric_history(result.run_id, "fit")] == [1, 2, 3]
    assert "fit_epoch" not in result.metrics


def test_params_are_those_that_have_an_effect(store: Store) -> None:
    result = run(config("Fit", model__module_args={"lr": 0.05}), store=store)
    params = store.client.get_run(result.run_id).data.params
    assert params["model.module_args.lr"] == "0.05"
    assert not [name for name in params if name.startswith(("optimizer", "model.network", "data.source"))]


def test_the_data_module_may_tell_its_own_digest(store: Store, tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("one")
    arguments = {"path": str(tmp_path / "points.txt")}
    result = run(config("Fit", "InAFile", data__module_args=arguments), store=store)
    assert store.client.get_run(result.run_id).data.tags["workbench.data_sha256"] == "digest of one"


def test_other_data_have_another_digest() -> None:
    digests = [
        prepare.prepare(config("Fit", data__module_args={"count": count, "batch_size": size}), None, Store.open())
        for count, size in ((64, 16), (64, 8), (65, 16))
    ]
    first, same, other = (task.digests for task in digests)
    assert first == same
    assert (first.data, first.splits["train"]) != (other.data, other.splits["train"])
    assert first.splits["val"] == other.splits["val"]


@pytest.mark.parametrize(
    ("module", "data", "monitor", "field", "told"),
    [
        ("LogsNothing", "Line", "val_loss", "model.module", "logs no metric, so that no run has a value"),
        ("Fit", "Line", "val/mae", "trainer.monitor", "choose from train_loss, val_loss"),
        ("Breaks", "Line", "val_loss", "model.module", "ZeroDivisionError: in the user's code"),
        ("HoldsAnObject", "Line", "val_loss", "model.module", "its checkpoint holds more than tensors"),
        ("no_module", "Line", "val_loss", "model.module", "makes int"),
        ("Fit", "BrokenData", "val_loss", "data.module", "FileNotFoundError: points.csv"),
        ("Fit", "Nothing", "val_loss", "data.module", "has no 'Nothing'"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_exists(
    store: Store, module: str, data: str, monitor: str, field: str, told: str
) -> None:
    before = len(store.client.search_runs(["0", "1"]))
    with pytest.raises(InputError) as refused:
        run(config(module, data, monitor), store=store)
    assert refused.value.field == field
    assert told in str(refused.value)
    assert len(store.client.search_runs(["0", "1"])) == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"optimizer.lr": 0.1}, "optimizer.lr"),
        ({"model.network": "tests.own_parts.Net"}, "model.network"),
        ({"model.module_args.lrate": 0.1}, "model.module_args.lrate"),
        ({"data.batch_size": 8}, "data.batch_size"),
        ({"trainer.compile": "default"}, "trainer.compile"),
        ({"model.module": None, "model.module_args": {}}, "model.module"),
    ],
)
def test_settings_without_effect_are_refused(fields: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        config("Fit", **{name.replace(".", "__"): value for name, value in fields.items()})
    assert refused.value.field == field


def test_a_failed_run_says_why_in_mlflow(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        run(config("BreaksLate"), store=store)
    (failed,) = store.client.search_runs(["1"], max_results=1)
    told = failed.data.tags["mlflow.note.content"]
    assert told.startswith("**Failed:** ZeroDivisionError: late, in postgresql://")
    kept = (store.files_folder(failed.info) / "traceback.txt").read_text()
    assert "in on_train_epoch_start" in kept
    assert "secret" not in told + kept
    assert str(Path.home()) not in kept


def test_a_profile_is_an_artifact(store: Store) -> None:
    result = run(config("Fit", trainer__profiler="simple"), store=store)
    assert "run_training_epoch" in (folder(result) / "fit-profile.txt").read_text()


def test_predictions_of_an_example(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "examples" / "regression")
    fields = {
        "data.module": "diabetes.Diabetes",
        "model.module": "diabetes.Regression",
        **SHORT,
        "trainer.monitor": "val/mae",
    }
    result = run(build(ExperimentConfig, with_overrides({}, fields)), store=store)
    with np.load(folder(result) / "predictions.npz") as held:
        error = np.abs(held["test_prediction"] - held["test_target"]).mean()
        assert len(held["val_prediction"]) == len(held["test_prediction"]) == 88
    assert error == pytest.approx(result.metrics["test/mae"], rel=1e-5)
    assert (folder(result) / "plots" / "predictions_val.png").exists()

    import mlflow

    model = mlflow.pyfunc.load_model(str(folder(result) / "model"))
    from sklearn.datasets import load_diabetes

    rows = load_diabetes(return_X_y=True)[0]
    answers = model.predict((rows / rows.std(axis=0)).astype(np.float32))
    with np.load(folder(result) / "predictions.npz") as held:
        assert np.isin(held["test_prediction"].round(2), answers.round(2)).all()


def test_predict_says_that_it_labels_images(store: Store, tmp_path: Path) -> None:
    result = run(config("Fit"), store=store)
    np.save(tmp_path / "x.npy", np.zeros((2, 1)))
    with pytest.raises(InputError, match="its module is your own, and this command only knows images"):
        predict(store, result.run_id, [tmp_path / "x.npy"])


def test_the_comparison_ranks_by_the_monitored_metric(store: Store) -> None:
    results = [run(config("Fit", model__module_args={"lr": lr}), store=store) for lr in (0.001, 0.1)]
    runs = [RunSummary.of(store.client.get_run(result.run_id)) for result in results]
    compared = compare(store, runs)
    assert [(row["run_id"], row["score"]) for row in compared["ranking"]] == [
        (result.run_id, result.value) for result in sorted(results, key=lambda each: each.value or 0.0)
    ]
    assert compared["tests"] == []
    assert "only the runs' own modules can compute val_loss of single samples" in compared["notes"][0]


@pytest.mark.parametrize(("lr", "verdict"), [(0.100001, "within_tolerance"), (0.05, "different")])
def test_metrics_of_unknown_scale_are_compared_by_their_ratio_too(
    store: Store, rerun_in_process: None, lr: float, verdict: str
) -> None:
    result = run(config("Fit", model__module_args={"lr": 0.1}), store=store)
    assert (result.value or 0.0) > 100.0
    settings = Settings(overrides={"model.module_args.lr": lr})
    assert reproduce(store, result.run_id, settings).verdict == verdict
