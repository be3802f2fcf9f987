"""Makes Optuna and MLflow agree on trials, above all on those whose process is gone."""

from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from experiments.process.owner import Owner
from experiments.tracking.lifecycle import close_dead_runs, close_run
from experiments.tracking.runs import children
from experiments.tracking.tracked_run import Outcome
from sweeps.study.stage import ATTEMPT, Stage, settle
from sweeps.study.storage import id_of, reopen, silent_trials


def reconcile(stage: Stage) -> None:
    """Ends every trial that is RUNNING without a live process, as its MLflow run ended; then runs as their trials.

    A process is taken for gone that does not exist on this host, or has given no sign of life for sweeps.storage.GRACE.
    One killed between closing the run and telling the study left a finished run: its trial counts, with its value. One
    without an end of its own died. The slot of a dead or interrupted trial is open again.
    """
    stage.store.persist(lambda: close_dead_runs(stage.store))
    with stage.lock():
        runs = {run.data.tags.get(ATTEMPT): run for run in children(stage.store, stage.sweep_run_id, {})}
        silent = silent_trials(stage.study)
        for trial in stage.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if id_of(trial) in silent or _is_abandoned(trial):
                _settle_as_recorded(stage, trial, runs.get(str(id_of(trial))))
        for trial in stage.trials() if stage.kind == "trial" else []:  # a champion's run has another end, with its test
            run = runs.get(str(id_of(trial)))
            if run is not None and run.data.tags.get("workbench.outcome") != trial.user_attrs.get("outcome"):
                _close_as_settled(stage, trial, run)


def _is_abandoned(trial: FrozenTrial) -> bool:
    owner = Owner.parse(trial.user_attrs.get("owner", ""))
    return owner is None or owner.is_gone()  # without an owner it was killed while it held the lock that we hold now


def _settle_as_recorded(stage: Stage, frozen: FrozenTrial, run: Run | None) -> None:
    trial = reopen(stage.study, frozen)
    outcome: Outcome = run.data.tags.get("workbench.outcome", "died") if run is not None else "died"
    value = run.data.metrics.get("value") if run is not None else None
    if outcome == "finished" and value is None:
        outcome = "died"
    settle(stage.study, trial, outcome, value=value, error="see its run" if outcome == "failed" else "")
    if run is not None and run.info.status == "RUNNING":  # its process lives, and will find that it was taken over
        close_run(stage.store, run.info.run_id, outcome, "it gave no sign of life, and was taken over")


def _close_as_settled(stage: Stage, trial: FrozenTrial, run: Run) -> None:
    """A process that was taken over in its last moments may still have closed the run in its own way."""
    outcome: Outcome | None = trial.user_attrs.get("outcome")
    if outcome is not None and run.info.status != "RUNNING":
        close_run(stage.store, run.info.run_id, outcome, trial.user_attrs.get("error", "another process took it over"))
