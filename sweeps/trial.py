"""One trial = one tracked run, scored on validation data, stopped early where the pruner says so."""

import optuna
from optuna.trial import Trial

from experiments import runner
from experiments.epochs import Epoch, Observer
from experiments.interrupts import Interrupted
from experiments.store import Store
from experiments.tracking import Pruned
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.limits import LimitBroken, Limits
from sweeps.space import describe
from sweeps.study import Claim, settle


def run_trial(
    store: Store, study: optuna.Study, sweep: Sweep, claim: Claim, *, parent: str, dataset: ImageDataset
) -> None:
    """Runs a claimed trial to its end and tells both stores. What a trial breaks on is its result, not the sweep's."""
    trial = claim.trial
    limits = sweep.config.constraints
    tags = {"workbench.sweep": sweep.name, "workbench.trial": str(trial.number), "workbench.slot": str(claim.slot)}
    try:
        result = runner.run(
            sweep.trial_config(claim.params, claim.seed),
            name=describe(claim.params),
            kind="trial",
            store=store,
            parent=parent,
            tags=tags,
            dataset=dataset,
            observers=[_report_to(trial, sweep.config.objective.metric)],
            callbacks=[Limits(trial, limits)] if any(vars(limits).values()) else [],  # every callback costs time a step
            read_test=False,
        )
    except LimitBroken as broken:
        settle(study, trial, "pruned", error=str(broken))
    except Pruned:
        settle(study, trial, "pruned")
    except (Interrupted, KeyboardInterrupt):
        settle(study, trial, "interrupted")
        raise
    except Exception as error:
        settle(study, trial, "failed", error=f"{type(error).__name__}: {error}")
    else:
        settle(study, trial, result.outcome, value=result.value, error=result.error)


def _report_to(trial: Trial, metric: str) -> Observer:
    """An observer that reports the objective after every epoch, and ends the run where the pruner says so."""

    def report(epoch: Epoch) -> None:
        trial.report(epoch.scores[metric], step=epoch.number)
        if not epoch.is_last and trial.should_prune():
            raise Pruned(f"after epoch {epoch.number}")

    return report
