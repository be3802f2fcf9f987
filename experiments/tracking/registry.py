"""Registers models in MLflow's model registry."""

import json
from collections.abc import Mapping

from experiments.artifact_names import MODEL
from experiments.tracking.logged_model import logged_models
from experiments.tracking.store import Store

_VERSIONS = "mlflow.modelVersions"  # MLflow's tag of a LoggedModel: the versions that are registered of it


def register_model(
    store: Store, run_id: str, *, name: str, alias: str, about: str, description: str, tags: Mapping[str, str]
) -> str:
    """Registers a run's model as a version of `name`, once, and points `alias` at it; returns the version.

    `about` describes the name, `description` and `tags` the version; both are Markdown, and are written again.
    """
    client = store.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    client.update_registered_model(name, about)
    registered = [version for version in client.search_model_versions(f"name = '{name}'") if version.run_id == run_id]
    version = registered[0] if registered else client.create_model_version(name, f"runs:/{run_id}/{MODEL}", run_id)
    client.update_model_version(name, version.version, description)
    for tag, text in tags.items():
        client.set_model_version_tag(name, version.version, tag, text)
    client.set_registered_model_alias(name, alias, version.version)
    for model in logged_models(store, run_id):
        known = json.loads(model.tags.get(_VERSIONS, "[]"))
        if not any(each["name"] == name for each in known):
            entry = {"name": name, "version": int(version.version)}
            client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps([*known, entry])})
    return str(version.version)
