"""Makes Optuna and MLflow agree on trials whose process is gone."""

import optuna
from optuna.trial import Trial, TrialState

from experiments.owner import Owner
from experiments.runs import children
from experiments.store import Store
from experiments.tracking import close_dead_runs
from sweeps.config import Sweep
from sweeps.study import settle, slot_lock


def reconcile(store: Store, study: optuna.Study, sweep: Sweep, sweep_run_id: str) -> None:
    """Ends every trial that is RUNNING without a live process, as its MLflow run ended.

    A process killed between closing the run and telling the study left a finished run: its trial counts, with its
    value. One without an end of its own died. The slot of a dead or interrupted trial is open again.
    """
    close_dead_runs(store)
    with slot_lock(store, sweep):
        for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = Owner.parse(frozen.user_attrs.get("owner", ""))
            if owner is not None and not owner.is_gone():
                continue  # without an owner it was killed while it held the lock that we hold now
            trial = Trial(study, frozen._trial_id)
            outcome, value = _recorded(store, sweep_run_id, frozen.number)
            if outcome == "finished" and value is not None:
                settle(study, trial, "finished", value=value)
            elif outcome == "pruned":
                settle(study, trial, "pruned")
            elif outcome == "failed":
                settle(study, trial, "failed", error="see its run")
            elif outcome == "interrupted":
                settle(study, trial, "interrupted")
            else:
                settle(study, trial, "died")


def _recorded(store: Store, sweep_run_id: str, number: int) -> tuple[str, float | None]:
    found = children(store, sweep_run_id, {"workbench.kind": "trial", "workbench.trial": str(number)})
    if not found:
        return "died", None
    return found[0].data.tags.get("workbench.outcome", "died"), found[0].data.metrics.get("value")
