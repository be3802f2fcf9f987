"""Registers models in MLflow's model registry."""

import json
import re
from collections.abc import Mapping

from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from experiments.artifact_names import MODEL
from experiments.tracking.logged_model import logged_models
from experiments.tracking.store import Store
from lightning_modules.errors import InputError

_VERSIONS = "mlflow.modelVersions"  # MLflow's tag of a LoggedModel: the versions that are registered of it


def as_registered_name(text: str) -> str:
    """Returns a text as the name of a registered model. MLflow refuses `/` and `:`, and cannot search for quotes."""
    return re.sub("[/:']", "_", text)


def check_alias(field: str, alias: str) -> None:
    """Raises InputError for an alias that MLflow refuses."""
    if not re.fullmatch("[A-Za-z0-9_-]{1,255}", alias) or alias == "latest" or re.fullmatch("[vV][0-9]+", alias):
        message = "is no alias: MLflow wants letters, digits, _ and -, and neither latest nor v1"
        raise InputError(field, alias, message, "write champion")


def aliased_version(store: Store, name: str, alias: str) -> ModelVersion | None:
    """Returns the version of `name` that `alias` points at; None if there is none."""
    known = registered_model(store, name)
    version = None if known is None else known.aliases.get(alias)
    return None if version is None else store.client.get_model_version(name, version)


def registered_model(store: Store, name: str) -> RegisteredModel | None:
    found: list[RegisteredModel] = store.client.search_registered_models(f"name = '{name}'")
    return found[0] if found else None


def register_model(
    store: Store, run_id: str, *, name: str, alias: str, about: str, description: str, tags: Mapping[str, str]
) -> str:
    """Registers a run's model as a version of `name`, once, and points `alias` at it; returns the version.

    `about` describes the name, `description` and `tags` the version; both are Markdown, and are written again.
    """
    client = store.client
    if registered_model(store, name) is None:
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
