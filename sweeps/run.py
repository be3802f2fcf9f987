"""A sweep, from its start or from where it was left, to its report."""

from contextlib import AbstractContextManager

import optuna
import yaml

from experiments import runner
from experiments.interrupts import interruptible
from experiments.store import Store
from experiments.tracking import TrackedRun, create_run, open_run, reopen_run
from lightning_modules import InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.finalists import Finalist, best_trials, run_finalists
from sweeps.progress import SweepProgress
from sweeps.reconcile import reconcile
from sweeps.report import SweepResult, report
from sweeps.study import claim, counted, open_study, slot_lock
from sweeps.trial import run_trial


def run(sweep: Sweep, *, store: Store | None = None, progress: SweepProgress | None = None) -> SweepResult:
    """Runs trials until the budget is spent, over all starts, then the finalists, and names the champion.

    The same sweep again continues where it was left. InputError is raised before anything is written.
    """
    store = store or Store.open()
    dataset = load_dataset(sweep.base.data)
    corner = next(sweep.space.corners())
    runner.prepare(sweep.trial_config(corner, 0), dataset)  # raises here, and not in every trial
    study = open_study(store, sweep, dataset.sha256)
    with interruptible(), _sweep_run(store, study, sweep) as tracked:
        tree = sweep.config_tree()
        (tracked.folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        finalists = _search(store, study, sweep, tracked, dataset, progress)
        return report(store, study, sweep, tracked, finalists)


def _search(
    store: Store,
    study: optuna.Study,
    sweep: Sweep,
    tracked: TrackedRun,
    dataset: ImageDataset,
    progress: SweepProgress | None,
) -> list[Finalist]:
    reconcile(store, study, sweep, tracked.run_id)
    while taken := claim(store, study, sweep):
        if progress is not None:
            progress.started(study, taken)
        run_trial(store, study, sweep, taken, parent=tracked.run_id, dataset=dataset)
        if progress is not None:
            progress.ended(study, taken)
        best = best_trials(study)
        if best and best[0].value is not None:
            tracked.log_metrics({"best_value": best[0].value}, step=len(counted(study)))
    if progress is not None:
        progress.searched(study)
    return run_finalists(store, study, sweep, parent=tracked.run_id, dataset=dataset)


def _sweep_run(store: Store, study: optuna.Study, sweep: Sweep) -> AbstractContextManager[TrackedRun]:
    """The sweep's own MLflow run, made at its first start, opened again at every later one."""
    with slot_lock(store, sweep):
        run_id = study.user_attrs.get("sweep_run_id")
        if run_id is None:
            tags = {"workbench.sweep": sweep.name}
            run_id = create_run(store, experiment=sweep.base.experiment, name=sweep.name, kind="sweep", tags=tags)
            study.set_user_attr("sweep_run_id", run_id)
            return open_run(store, run_id)
    if store.client.get_run(run_id).info.lifecycle_stage == "deleted":
        remedy = "restore it in the dashboard, or start a sweep of its own with --name"
        raise InputError("--name", sweep.name, f"this sweep's run {run_id} was deleted in MLflow", remedy)
    return reopen_run(store, run_id)
