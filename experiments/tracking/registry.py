"""Registers models in MLflow's model registry."""

from experiments.artifact_names import MODEL
from experiments.tracking.store import Store


def register_model(store: Store, run_id: str, *, name: str, alias: str) -> str:
    """Registers a run's model as a version of `name`, once, and points `alias` at it; returns the version."""
    client = store.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    registered = [version for version in client.search_model_versions(f"name = '{name}'") if version.run_id == run_id]
    version = registered[0] if registered else client.create_model_version(name, f"runs:/{run_id}/{MODEL}", run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)
