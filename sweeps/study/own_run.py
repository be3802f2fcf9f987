"""The MLflow run of a sweep itself, or of repeats: the parent of the runs of its trials."""

from contextlib import AbstractContextManager
from typing import Literal

from mlflow.exceptions import MlflowException

from experiments.tracking.lifecycle import create_run, open_run, reopen_run
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import InputError
from sweeps.study.stage import Stage


def own_run(stage: Stage, kind: Literal["sweep", "repeats"]) -> AbstractContextManager[TrackedRun]:
    """Opens the run, which the first start creates. Raises InputError if it was deleted."""
    store, sweep, study = stage.store, stage.sweep, stage.study
    with stage.lock():
        run_id = study.user_attrs.get("sweep_run_id")
        if run_id is None:
            tags = {"workbench.sweep": sweep.name}
            run_id = create_run(store, experiment=sweep.base.experiment, name=sweep.name, kind=kind, tags=tags)
            study.set_user_attr("sweep_run_id", run_id)
            return open_run(store, run_id)
    with_another = "start with another --name" if kind == "repeats" else "start a new sweep with another --name"
    remedy = f"restore it in the dashboard, or {with_another}"
    try:
        is_deleted = store.client.get_run(run_id).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        is_deleted, remedy = True, with_another  # it is gone for good
    if is_deleted:
        whose = "the run of these repeats" if kind == "repeats" else "this sweep's run"
        raise InputError("--name", sweep.name, f"{whose}, {run_id}, was deleted in MLflow", remedy)
    return reopen_run(store, run_id)
