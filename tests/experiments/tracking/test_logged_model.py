"""A run's model as a LoggedModel of MLflow: written once, whatever is written again."""

import json

import pytest
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from experiments import Store
from experiments.tracking.lifecycle import create_run, open_run, reopen_run
from experiments.tracking.logged_model import ListedModel, as_name, logged_models
from experiments.tracking.registry import register_model
from experiments.tracking.seal import broken
from experiments.tracking.spool import Entry, write

MODEL = ListedModel(
    name=as_name("finalist lr=0.03 #1"),
    kind="classifier",
    params={"optimizer.lr": "0.03"},
    tags={"mlflow.note.content": "It is a test."},
    files={"MLmodel": "flavors: {}\n"},
    dataset=("digits-test", "a digest"),
)


@pytest.fixture
def run_id(scratch_store: Store) -> str:
    return create_run(scratch_store, experiment="models", name="test", kind="train")


def scores(store: Store, run_id: str) -> list[Metric]:
    return list(store.client.get_metric_history(run_id, "test/accuracy"))


def test_it_is_written_with_its_scores_and_not_doubled_by_a_second_test(scratch_store: Store, run_id: str) -> None:
    with open_run(scratch_store, run_id) as run:
        run.log_model(MODEL, {"test/accuracy": 0.9}, 3)
    with reopen_run(scratch_store, run_id) as run:  # as after an interrupt between test and end
        run.log_model(MODEL, {"test/accuracy": 0.9}, 3)
    (model,) = logged_models(scratch_store, run_id)
    assert (model.name, model.status) == ("finalist lr=0·03 #1", LoggedModelStatus.READY)
    assert [(metric.key, metric.value, metric.step) for metric in model.metrics] == [("test/accuracy", 0.9, 3)]
    assert [point.step for point in scores(scratch_store, run_id)] == [3]
    assert len(scratch_store.client.get_run(run_id).outputs.model_outputs) == 1
    assert [file.path for file in scratch_store.client.list_logged_model_artifacts(model.model_id)] == ["MLmodel"]


def test_the_record_has_the_scores_of_the_first_test(scratch_store: Store, run_id: str) -> None:
    for score in (0.9, 0.8):
        with reopen_run(scratch_store, run_id) as run:
            run.log_model(MODEL, {"test/accuracy": score}, 3)
    ended = scratch_store.client.get_run(run_id)
    folder = scratch_store.files_folder(ended.info)
    assert ended.data.metrics == {"test/accuracy": 0.9}
    assert list(broken(json.loads((folder / "record.json").read_text()), ended, folder)) == []


def test_a_delivery_that_is_repeated_writes_it_once(scratch_store: Store, run_id: str) -> None:
    entry = Entry(metrics=[("test/accuracy", 0.9, 1_700_000_000_000, 3)], model=vars(MODEL))
    for _ in range(2):
        write(scratch_store, run_id, entry)
    (model,) = logged_models(scratch_store, run_id)
    assert len(model.metrics) == len(scores(scratch_store, run_id)) == 1


def test_a_server_without_logged_models_keeps_the_scores(
    scratch_store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise MlflowException("no such endpoint")

    monkeypatch.setattr(scratch_store.client, "search_logged_models", refused)
    with open_run(scratch_store, run_id) as run:
        run.log_model(MODEL, {"test/accuracy": 0.9}, 3)
    assert [point.value for point in scores(scratch_store, run_id)] == [0.9]
    assert "not listed in the dashboard's Models tab: no such endpoint" in caplog.text


def test_a_registered_version_says_what_it_is_and_is_named_by_the_model(scratch_store: Store, run_id: str) -> None:
    with open_run(scratch_store, run_id) as run:
        run.log_model(MODEL, {"test/accuracy": 0.9}, 3)
    told = {"name": "mine", "alias": "champion", "about": "champions"}
    for description in ("first", "second"):
        version = register_model(scratch_store, run_id, **told, description=description, tags={"seed": "7"})
    found = scratch_store.client.get_model_version_by_alias("mine", "champion")
    assert (found.version, found.description, found.tags) == (int(version), "second", {"seed": "7"})
    assert scratch_store.client.get_registered_model("mine").description == "champions"
    (model,) = logged_models(scratch_store, run_id)
    assert model.tags["mlflow.modelVersions"] == f'[{{"name": "mine", "version": {version}}}]'
