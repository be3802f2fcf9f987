"""Makes Optuna and MLflow agree on how each trial ended, especially if its process died."""

from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from experiments.process.owner import Owner
from experiments.tracking.lifecycle import close_dead_runs, close_run
from experiments.tracking.runs import children
from experiments.tracking.tracked_run import Outcome
from sweeps.study.stage import ATTEMPT, Stage, settle
from sweeps.study.storage import id_of, reopen, silent_trials


def reconcile(stage: Stage) -> None:
    """Ends RUNNING trials whose process is dead, with the outcome of their MLflow run; then fixes runs that disagree.

    A process counts as dead if it is gone from this host or gave no sign of life for `GRACE` seconds (storage.py).
    A process killed after it closed the run and before it ended the trial left a finished run. That trial counts, with
    the run's value. A trial whose run has no outcome died. A dead or interrupted trial leaves its slot open again.
    """
    stage.store.persist(lambda: close_dead_runs(stage.store))
    with stage.lock():
        runs = {run.data.tags.get(ATTEMPT): run for run in children(stage.store, stage.sweep_run_id, {})}
        silent = silent_trials(stage.study)
        for trial in stage.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if id_of(trial) in silent or _is_abandoned(trial):
                _settle_like_run(stage, trial, runs.get(str(id_of(trial))))
        for trial in stage.trials() if stage.kind == "trial" else []:  # scoring on test reopens a finalist's run
            run = runs.get(str(id_of(trial)))
            if run is not None and run.data.tags.get("workbench.outcome") != trial.user_attrs.get("outcome"):
                _close_like_trial(stage, trial, run)


def _is_abandoned(trial: FrozenTrial) -> bool:
    owner = Owner.parse(trial.user_attrs.get("owner", ""))
    return owner is None or owner.is_gone()  # no owner: its process died in `claim`, because we hold the lock now


def _settle_like_run(stage: Stage, frozen: FrozenTrial, run: Run | None) -> None:
    trial = reopen(stage.study, frozen)
    outcome: Outcome = run.data.tags.get("workbench.outcome", "died") if run is not None else "died"
    value = run.data.metrics.get("value") if run is not None else None
    if outcome == "finished" and value is None:
        outcome = "died"
    settle(stage.study, trial, outcome, value=value, error="see its MLflow run" if outcome == "failed" else "")
    if run is not None and run.info.status == "RUNNING":  # its process, if alive, will find out and stop
        close_run(stage.store, run.info.run_id, outcome, "no sign of life; another process took over the trial")


def _close_like_trial(stage: Stage, trial: FrozenTrial, run: Run) -> None:
    """Gives an ended run its trial's outcome. The run's process may have closed it after the trial was taken over."""
    outcome: Outcome | None = trial.user_attrs.get("outcome")
    if outcome is not None and run.info.status != "RUNNING":
        close_run(stage.store, run.info.run_id, outcome, trial.user_attrs.get("error", "another process took it over"))
