"""Runs one trial as one tracked run, scored on the validation split. The pruner may stop it early."""

from collections.abc import Sequence
from contextlib import suppress

from mlflow.entities import Run
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from experiments import runner
from experiments.errors import Interrupted, Pruned, StoreError, TakenOver
from experiments.process.interrupts import uninterrupted
from experiments.tracking.runs import children
from experiments.training.epochs import Epoch, Scores
from lightning_modules.datasets import ImageDataset
from sweeps.errors import LimitBroken
from sweeps.strategy.limits import Limits
from sweeps.study.reconcile import settle_like_run
from sweeps.study.stage import ATTEMPT, Claim, Stage, settle
from sweeps.study.storage import id_of, signs_of_life


def run_trial(stage: Stage, claim: Claim, dataset: ImageDataset | None) -> None:
    """Runs a claimed trial and records its end in MLflow and Optuna. A trial that fails does not stop the sweep.

    Raises StoreError if the store cannot be written. The trial's slot is then open again.
    """
    trial, study, sweep = claim.trial, claim.trial.study, stage.sweep
    limits = sweep.config.constraints
    is_limited = stage.kind == "trial" and any(vars(limits).values())
    with signs_of_life(study, trial):
        try:
            result = runner.run_as(
                _role(stage, claim),
                sweep.trial_config(claim.params, claim.seed),
                stage.store,
                dataset=dataset,
                observers=[_Report(trial, sweep.config.objective.metric)],
                callbacks=[Limits(trial, limits)] if is_limited else [],  # every callback costs time at each step
            )
        except LimitBroken as broken:
            settle(study, trial, "pruned", error=str(broken))
        except Pruned:
            settle(study, trial, "pruned")
        except TakenOver:
            pass
        except (Interrupted, KeyboardInterrupt):
            with uninterrupted():  # the run may just have finished: its work is not done again
                settle_like_run(stage, trial, _run_of(stage, trial), otherwise="interrupted")
            raise
        except StoreError:
            with suppress(Exception):  # this usually fails too; the slot then opens when this process ends
                settle(study, trial, "interrupted")
            raise
        except Exception as error:
            settle(study, trial, "failed", error=f"{type(error).__name__}: {error}")
        else:
            settle(study, trial, result.outcome, value=result.value, error=result.error)


def _run_of(stage: Stage, trial: Trial) -> Run | None:
    """Returns the trial's MLflow run; None if there is none, or if the store cannot be read now."""
    with suppress(Exception):
        return next(iter(children(stage.store, stage.sweep_run_id, {ATTEMPT: str(id_of(trial))})), None)
    return None


def _role(stage: Stage, claim: Claim) -> runner.Role:
    """Returns the role of the trial's run: a child of the sweep's run that continues the slot's earlier run, if any."""
    earlier_runs = []
    if claim.earlier is not None:
        with stage.store.telling_failures():
            earlier_runs = children(stage.store, stage.sweep_run_id, {ATTEMPT: str(claim.earlier)})
    return runner.Role(
        name=claim.name,
        kind=stage.kind,
        tags={
            "mlflow.parentRunId": stage.sweep_run_id,
            "workbench.sweep": stage.sweep.name,
            ATTEMPT: str(id_of(claim.trial)),
            **claim.tags,
        },
        read_test=stage.reads_test,
        continues=earlier_runs[0].info.run_id if earlier_runs else None,
        code=stage.code,
    )


class _Report:
    """Reports the objective to Optuna after every epoch, and ends the run if the pruner says so."""

    def __init__(self, trial: Trial, metric: str) -> None:
        self._trial, self._metric = trial, metric

    def begin(self, history: Sequence[Scores]) -> None:
        """Reports the earlier epochs of a resumed run."""
        for scores in history:
            self._report(int(scores["epoch"]), scores[self._metric])

    def __call__(self, epoch: Epoch) -> None:
        self._report(epoch.number, epoch.scores[self._metric])
        if not epoch.is_last and self._trial.should_prune():
            raise Pruned(f"after epoch {epoch.number}")

    def _report(self, epoch: int, value: float) -> None:
        try:
            self._trial.report(value, step=epoch)
        except UpdateFinishedTrialError as error:
            raise TakenOver("this process gave no sign of life, so another one took over the trial") from error
