"""One trial = one tracked run, scored on validation data, stopped early where the pruner says so."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import Trial

from experiments import runner
from experiments.process.interrupts import Interrupted
from experiments.tracking.runs import children
from experiments.tracking.store import StoreError
from experiments.tracking.tracked_run import Pruned, TakenOver
from experiments.training.epochs import Epoch
from lightning_modules.datasets import ImageDataset
from sweeps.strategy.limits import LimitBroken, Limits
from sweeps.study.stage import ATTEMPT, Claim, Stage, settle


def run_trial(stage: Stage, claim: Claim, *, parent: str, dataset: ImageDataset) -> None:
    """Runs a claimed trial to its end and tells both stores. What a trial breaks on is its result, not the sweep's.

    Raises StoreError where the store cannot be written: the trial's slot is open again.
    """
    trial, study, store, sweep = claim.trial, stage.study, stage.store, stage.sweep
    report = _Report(trial, sweep.config.objective.metric)
    limits = sweep.config.constraints
    is_limited = stage.kind == "trial" and any(vars(limits).values())
    with get_heartbeat_thread(trial._trial_id, study._storage):
        try:
            with store.telling_failures():
                left_open = [] if claim.earlier is None else children(store, parent, {ATTEMPT: str(claim.earlier)})
            result = runner.run(
                sweep.trial_config(claim.params, claim.seed),
                name=claim.name,
                kind=stage.kind,
                store=store,
                parent=parent,
                tags={"workbench.sweep": sweep.name, ATTEMPT: str(trial._trial_id), **claim.tags},
                dataset=dataset,
                observers=[report],
                callbacks=[Limits(trial, limits)] if is_limited else [],  # every callback costs time a step
                read_test=False,
                continues=left_open[0].info.run_id if left_open else None,
                begun=report.take_up,
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


class _Report:
    """An observer that reports the objective after every epoch, and ends the run where the pruner says so."""

    def __init__(self, trial: Trial, metric: str) -> None:
        self._trial, self._metric = trial, metric

    def take_up(self, history: Sequence[dict[str, Any]]) -> None:
        """Reports the epochs that training goes on from."""
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
