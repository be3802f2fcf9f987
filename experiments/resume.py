"""Which runs may be gone on with, and as what."""

import tempfile

from mlflow.exceptions import MlflowException

from experiments.config import ExperimentConfig, flatten, load_config
from experiments.store import Store
from lightning_modules import InputError

# The same data may lie elsewhere: the trace tells whether they are the same.
_MAY_MOVE = {"data.root", "data.path", "data.labels_path"}


def check_resumable(store: Store, run_id: str, config: ExperimentConfig) -> None:
    """Raises InputError where the run has ended well, still runs, is a sweep's, or was another configuration's."""
    run = store.client.get_run(run_id)
    if (kind := run.data.tags.get("workbench.kind")) != "train":
        raise InputError("--resume", run_id, f"is a {kind}", "only runs of `workbench train` resume; a sweep by itself")
    if run.info.status == "FINISHED":
        raise InputError("--resume", run_id, "has finished", "start a new run")
    if run.info.status == "RUNNING":
        owner = run.data.tags.get("workbench.owner", "an unknown process")
        raise InputError("--resume", run_id, f"still runs, in {owner}", "wait for it, or interrupt it first")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = store.client.download_artifacts(run_id, "config.yaml", scratch)
        except (MlflowException, OSError):
            return  # it was killed before anything was recorded: it begins anew
        began, now = (flatten(each.tree()) for each in (load_config(path), config))
    for name in began.keys() - _MAY_MOVE:
        if now[name] != began[name]:
            remedy = f"give --{name} {'null' if began[name] is None else began[name]}"
            raise InputError(name, now[name], f"the run began with {began[name]}", remedy)
