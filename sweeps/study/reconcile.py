"""Makes Optuna and MLflow agree on how each trial ended, especially if its process died."""

from mlflow.entities import Run
from optuna.trial import FrozenTrial, Trial

from experiments.process.owner import Owner
from experiments.process.presence import gone
from experiments.tracking.lifecycle import close_dead_runs, close_run, keep_open
from experiments.tracking.runs import children
from experiments.tracking.tracked_run import Outcome
from sweeps.study.stage import ATTEMPT, Stage, running_trials, settle
from sweeps.study.storage import id_of, reopen, silent_trials


def reconcile(stage: Stage) -> None:
    """Ends RUNNING trials whose process is dead, with the outcome of their MLflow run; then fixes runs that disagree.

    A process counts as dead if it is gone (process/presence.py). Of those that share only a database with this one, it
    is known that they gave no sign of life for `GRACE` seconds (storage.py), by the clock of that database.
    A process killed after it closed the run and before it ended the trial left a finished run. That trial counts, with
    the run's value. A trial whose run has no outcome died. A dead or interrupted trial leaves its slot open again.
    """
    stage.store.persist(lambda: close_dead_runs(stage.store))
    stage.store.persist(lambda: keep_open(stage.store, stage.sweep_run_id))
    ended, silent = _gone(stage), _silent(stage)  # may take a while, in which other processes may claim trials
    with stage.lock():
        runs = {run.data.tags.get(ATTEMPT): run for run in children(stage.store, stage.sweep_run_id, {})}
        for trial in _running(stage):
            owner = _owner_of(trial)
            # Without an owner, its process died in `claim`, because we hold the lock now.
            if owner is None or owner in ended or id_of(trial) in silent:
                run = runs.get(str(id_of(trial)))
                settle_like_run(stage, reopen(stage.study_of(trial), trial), run, otherwise="died")
        for trial in stage.trials() if stage.kind != "finalist" else []:  # scoring on test reopens a finalist's run
            run = runs.get(str(id_of(trial)))
            if run is not None and run.data.tags.get("workbench.outcome") != trial.user_attrs.get("outcome"):
                _close_like_trial(stage, trial, run)


def settle_like_run(stage: Stage, trial: Trial, run: Run | None, *, otherwise: Outcome) -> None:
    """Ends a trial with the outcome and the value of its MLflow run; if that has none, with the outcome `otherwise`."""
    outcome: Outcome = run.data.tags.get("workbench.outcome", otherwise) if run is not None else otherwise
    value = run.data.metrics.get("value") if run is not None else None
    if outcome == "finished" and value is None:
        outcome = otherwise
    settle(trial.study, trial, outcome, value=value, error="see its MLflow run" if outcome == "failed" else "")
    if run is not None and run.info.status == "RUNNING":  # its process, if alive, will find out and stop
        error = "" if outcome == "interrupted" else "no sign of life; another process took over the trial"
        close_run(stage.store, run.info.run_id, outcome, error)


def _running(stage: Stage) -> list[FrozenTrial]:
    return running_trials(stage.trials())


def _owner_of(trial: FrozenTrial) -> Owner | None:
    return Owner.parse(trial.user_attrs.get("owner", ""))


def _gone(stage: Stage) -> set[Owner]:
    owners = {owner for trial in _running(stage) if (owner := _owner_of(trial)) is not None}
    if stage.storage.url is None:
        return gone(owners, stage.store.folder)
    return {owner for owner in owners if owner.fate() == "gone"}


def _silent(stage: Stage) -> set[int]:
    """Returns the ids of trials without a sign of life in a database that hosts share.

    The clock of an SQLite file would be this machine's, which may be set.
    """
    if stage.storage.url is None:
        return set()
    return set().union(*map(silent_trials, (stage.study, *stage.arm_studies)))


def _close_like_trial(stage: Stage, trial: FrozenTrial, run: Run) -> None:
    """Gives an ended run its trial's outcome. The run's process may have closed it after the trial was taken over."""
    outcome: Outcome | None = trial.user_attrs.get("outcome")
    if outcome is not None and run.info.status != "RUNNING":
        close_run(stage.store, run.info.run_id, outcome, trial.user_attrs.get("error", "another process took it over"))
