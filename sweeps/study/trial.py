"""One trial = one tracked run, scored on validation data, stopped early where the pruner says so."""

from collections.abc import Sequence
from contextlib import suppress

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from experiments import runner
from experiments.errors import Interrupted, Pruned, StoreError, TakenOver
from experiments.tracking.runs import children
from experiments.training.epochs import Epoch, Scores
from lightning_modules.datasets import ImageDataset
from sweeps.errors import LimitBroken
from sweeps.strategy.limits import Limits
from sweeps.study.stage import ATTEMPT, Claim, Stage, settle
from sweeps.study.storage import id_of, signs_of_life


def run_trial(stage: Stage, claim: Claim, dataset: ImageDataset) -> None:
    """Runs a claimed trial to its end and tells both stores. What a trial breaks on is its result, not the sweep's.

    Raises StoreError where the store cannot be written: the trial's slot is open again.
    """
    trial, study, sweep = claim.trial, stage.study, stage.sweep
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
                callbacks=[Limits(trial, limits)] if is_limited else [],  # every callback costs time a step
            )
        except LimitBroken as broken:
            settle(study, trial, "pruned", error=str(broken))
        except Pruned:
            settle(study, trial, "pruned")
        except TakenOver:
            pass
        except (Interrupted, KeyboardInterrupt):
            settle(study, trial, "interrupted")
            raise
        except StoreError:
            with suppress(Exception):  # it is in the same trouble, as a rule; then the slot opens with our end
                settle(study, trial, "interrupted")
            raise
        except Exception as error:
            settle(study, trial, "failed", error=f"{type(error).__name__}: {error}")
        else:
            settle(study, trial, result.outcome, value=result.value, error=result.error)


def _role(stage: Stage, claim: Claim) -> runner.Role:
    """What the trial's run is: a child of the sweep's, after the run, if there is one, that left its slot open."""
    left_open = []
    if claim.earlier is not None:
        with stage.store.telling_failures():
            left_open = children(stage.store, stage.sweep_run_id, {ATTEMPT: str(claim.earlier)})
    return runner.Role(
        name=claim.name,
        kind=stage.kind,
        tags={
            "mlflow.parentRunId": stage.sweep_run_id,
            "workbench.sweep": stage.sweep.name,
            ATTEMPT: str(id_of(claim.trial)),
            **claim.tags,
        },
        read_test=False,
        continues=left_open[0].info.run_id if left_open else None,
    )


class _Report:
    """An observer that reports the objective after every epoch, and ends the run where the pruner says so."""

    def __init__(self, trial: Trial, metric: str) -> None:
        self._trial, self._metric = trial, metric

    def begin(self, history: Sequence[Scores]) -> None:
        """Reports the epochs that training continues from."""
        for scores in history:
            self._tell(int(scores["epoch"]), scores[self._metric])

    def __call__(self, epoch: Epoch) -> None:
        self._tell(epoch.number, epoch.scores[self._metric])
        if not epoch.is_last and self._trial.should_prune():
            raise Pruned(f"after epoch {epoch.number}")

    def _tell(self, epoch: int, value: float) -> None:
        try:
            self._trial.report(value, step=epoch)
        except UpdateFinishedTrialError as error:
            raise TakenOver("this process gave no sign of life, and another one took the trial over") from error
