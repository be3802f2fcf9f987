"""A run's model as a LoggedModel of MLflow: the dashboard's Models tab lists it, with its scores on the test split.

The model itself stays in the run's folder. The files of the LoggedModel, a few kB, load it from there.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus

from experiments.tracking.store import Store

_REFUSED = str.maketrans({".": "·", "/": "_", ":": "_", "%": "_", '"': "”", "'": "’"})  # in names, by MLflow


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """What MLflow lists of a run's model."""

    name: str
    kind: str | None  # MLflow's "model type"
    params: dict[str, str]
    tags: dict[str, str]
    files: dict[str, str]  # texts by name
    dataset: tuple[str, str] | None  # name and digest of the data set behind the scores


def as_name(text: str) -> str:
    """Returns a text as the name of a LoggedModel, in which MLflow refuses dots and other characters."""
    return text.translate(_REFUSED)


def logged_models(store: Store, run_id: str) -> list[LoggedModel]:
    """Returns the LoggedModels that a run has made."""
    experiment_id = store.client.get_run(run_id).info.experiment_id
    found = store.client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    return list(found)


def write_model(store: Store, run_id: str, model: ListedModel) -> str:
    """Creates the LoggedModel of a run, or writes it again; returns its id."""
    client, run = store.client, store.client.get_run(run_id)
    found = logged_models(store, run_id)
    written = found[0] if found else None
    if written is None:
        written = client.create_logged_model(
            run.info.experiment_id, model.name, run_id, params=model.params, model_type=model.kind
        )
    client.set_logged_model_tags(written.model_id, model.tags)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in model.files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        client.log_model_artifacts(written.model_id, folder)
    if written.status != LoggedModelStatus.READY:
        client.finalize_logged_model(written.model_id, LoggedModelStatus.READY)
    outputs = run.outputs.model_outputs if run.outputs else []
    if written.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(written.model_id, step=0)])
    return str(written.model_id)
