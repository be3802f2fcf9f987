"""One trial = one tracked run, scored on validation data, stopped early where the pruner says so."""

import optuna
import pytorch_lightning as pl
from optuna.trial import Trial
from pytorch_lightning.callbacks import Checkpoint

from experiments import runner
from experiments.interrupts import Interrupted
from experiments.store import Store
from experiments.tracking import Pruned
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.space import describe
from sweeps.study import Claim, settle


def run_trial(
    store: Store, study: optuna.Study, sweep: Sweep, claim: Claim, *, parent: str, dataset: ImageDataset
) -> None:
    """Runs a claimed trial to its end and tells both stores. What a trial breaks on is its result, not the sweep's."""
    trial = claim.trial
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
            callbacks=[_Pruning(trial, sweep.config.objective.metric)],
            read_test=False,
        )
    except Pruned:
        settle(study, trial, "pruned")
    except (Interrupted, KeyboardInterrupt):
        settle(study, trial, "interrupted")
        raise
    except Exception as error:
        settle(study, trial, "failed", error=f"{type(error).__name__}: {error}")
    else:
        settle(study, trial, result.outcome, value=result.value, error=result.error)


class _Pruning(Checkpoint):
    """Reports the objective after every epoch; a Checkpoint, because those know an epoch's scores at its end."""

    def __init__(self, trial: Trial, metric: str) -> None:
        self._trial = trial
        self._metric = metric
        self._pruned_after: int | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self._trial.report(float(trainer.callback_metrics[self._metric]), step=epoch)
        if epoch != trainer.max_epochs and self._trial.should_prune():
            self._pruned_after = epoch
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._pruned_after is not None:
            raise Pruned(f"after epoch {self._pruned_after}")
