"""What MLflow lists of a run's model: its scores, how to call it, and files that load the run's."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlflow.entities import LoggedModel, LoggedModelStatus, Run

from experiments.upkeep.item import size_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture
def listed(client: "MlflowClient", first_run: Run) -> LoggedModel:
    (found,) = client.search_logged_models(["1"], filter_string=f"source_run_id = '{first_run.info.run_id}'")
    return found


def test_it_is_ready_and_has_the_run_s_test_scores_on_the_run_s_test_images(
    listed: LoggedModel, first_run: Run, client: "MlflowClient"
) -> None:
    assert (listed.name, listed.status, listed.model_type) == ("first", LoggedModelStatus.READY, "classifier")
    scores = {name: value for name, value in first_run.data.metrics.items() if name.startswith("test/")}
    assert {metric.key: metric.value for metric in listed.metrics} == scores
    (tested,) = [each.dataset for each in first_run.inputs.dataset_inputs if each.dataset.name == "digits-test"]
    assert {(metric.dataset_name, metric.dataset_digest) for metric in listed.metrics} == {(tested.name, tested.digest)}
    assert [output.model_id for output in first_run.outputs.model_outputs] == [listed.model_id]
    assert len(client.get_metric_history(first_run.info.run_id, "test/accuracy")) == 1
    assert listed.params["trainer.max_epochs"] == "3"


def test_its_few_files_answer_as_the_run_s_model(
    listed: LoggedModel,
    first_run: Run,
    digits_store: Path,
    load_model: Callable[[Path | str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert size_of(Path(listed.artifact_location.removeprefix("file://"))) < 10_000
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{digits_store}/mlflow.db")
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8), np.uint8)
    by_run, by_id = (load_model(uri) for uri in (f"runs:/{first_run.info.run_id}/model", f"models:/{listed.model_id}"))
    assert by_id.metadata.signature == by_run.metadata.signature
    assert np.array_equal(by_id.predict(images)["probabilities"], by_run.predict(images)["probabilities"])


def test_its_description_says_how_it_did_and_how_to_call_it(listed: LoggedModel, first_run: Run) -> None:
    said = listed.tags["mlflow.note.content"]
    assert f"**test/accuracy {first_run.data.metrics['test/accuracy']:.4f}**" in said
    assert f'mlflow.pyfunc.load_model("runs:/{first_run.info.run_id}/model")' in said
    assert "uint8 (N, any, any)" in said
