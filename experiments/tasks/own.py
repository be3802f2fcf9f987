"""A task of the user's own: any LightningModule, on images or on the data of any LightningDataModule.

All that is asked of the module is a `training_step` and one logged metric. What more it offers is used: see
docs/own_task.md.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from mlflow.entities import DatasetInput
from numpy.typing import NDArray
from pytorch_lightning.utilities.model_helpers import is_overridden

from experiments.artifact_names import CURVES_PLOT, PREDICTIONS_PLOT
from experiments.pictures import plots
from experiments.results import data_report, own_model, predictions
from experiments.tasks.digests import has
from experiments.tasks.inputs import image_inputs, own_inputs
from experiments.tasks.task import Task
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.stepping import say_one_by_one
from experiments.training.trainer import make_trainer
from lightning_modules import ImageDataModule, InputError

_SHOWN = 8  # metrics in a description
_FORKED = re.compile(r"(.*)_(step|epoch)")  # Lightning's names of a metric that is logged both ways


@dataclass(frozen=True)
class Logged:
    """The names of the metrics that a module logs, as its rehearsal has shown."""

    scores: Collection[str]  # of an epoch
    within: Collection[str]  # of single batches


@dataclass(kw_only=True)
class OwnTask(Task):
    """A LightningModule of the user's own. `counts`: samples by split, where they are known."""

    counts: Mapping[str, int]
    logged: Logged

    def inputs(self) -> list[DatasetInput]:
        if isinstance(self.data, ImageDataModule):
            return image_inputs(self.data)
        return own_inputs(str(self.config.data.module), self.digests, self.counts)

    def record_data(self, run: TrackedRun) -> None:
        if isinstance(self.data, ImageDataModule):
            data_report.record(run, self.data)

    def execute_steps(self, callbacks: Sequence[pl.Callback]) -> Mapping[str, Any]:
        if self.config.trainer.steps_per_execution != 1:
            say_one_by_one(f"model.module {self.config.model.module} has a training step of its own")
        return {}

    def is_score(self, name: str) -> bool:
        return is_epoch_score(name, self.logged.scores)

    def name_within_epoch(self, name: str) -> str | None:
        if name in self.logged.within:
            return f"{name}_step"
        forked = _FORKED.fullmatch(name)
        if forked and forked[2] == "step":
            return name
        return None if name in self.logged.scores or (forked and forked[1] in self.logged.scores) else name

    def throughput(self, seconds: float) -> dict[str, float]:
        return {"throughput/samples_per_second": self.counts["train"] / seconds} if "train" in self.counts else {}

    def record_training(self, run: TrackedRun, history: Sequence[Mapping[str, float]]) -> None:
        plots.plot_scores(history, self.config.trainer, run.path(CURVES_PLOT))

    def record_val(self, run: TrackedRun, trainer: pl.Trainer | None) -> None:
        """Does nothing: predictions may be large, so that trials keep none."""

    def record_test(self, run: TrackedRun, trainer: pl.Trainer) -> dict[str, float]:
        scores: dict[str, float] = {}
        if has(self.data, "val") and is_overridden("validation_step", self.module):
            answers = Answers(self.module)
            again = make_trainer(self.config, callbacks=[answers])
            again.validate(self.module, self.data, verbose=False)
            self._record(run, "val", answers)
        if has(self.data, "test") and is_overridden("test_step", self.module):
            answers = Answers(self.module)
            trainer.callbacks.append(answers)  # type: ignore[attr-defined]  # Lightning makes the attribute itself
            trainer.loggers = []  # the scores are returned
            for found in trainer.test(self.module, self.data, verbose=False):
                scores |= {_as_test(name): value for name, value in found.items()}
            self._record(run, "test", answers)
        own_model.log_model(run, self.module)
        return scores

    def shown_scores(self, names: Sequence[str]) -> list[str]:
        own = [name for name in names if name in self.logged.scores or name.startswith("test")]
        first = [name for name in own if name == self.config.trainer.monitor]
        return [*first, *(name for name in own if name not in first)][:_SHOWN]

    def _record(self, run: TrackedRun, split: str, answers: "Answers") -> None:
        """Writes the module's predictions of a split, and the module's picture of them."""
        if not (found := answers.arrays()):
            return
        predictions.add(run, {f"{split}_{name}": array for name, array in found.items()})
        draw = getattr(self.module, "plot_predictions", None)
        if callable(draw) and isinstance(figure := draw(split, found), Figure):
            figure.savefig(run.path(PREDICTIONS_PLOT.format(split=split)), dpi=100)


def is_epoch_score(name: str, known: Collection[str]) -> bool:
    """Whether a name in Lightning's `callback_metrics` is a score, and not its double `NAME_step` or `NAME_epoch`."""
    forked = _FORKED.fullmatch(name)
    return not name.startswith("test") and not (forked and forked[1] in known)


class Answers(pl.Callback):
    """Collects what the module's own `predict_step` answers for each batch of a pass over val or test.

    Of several loaders it takes the first. Lightning's `predict` makes data loaders anew, which fails for some of those
    that it can train with.
    """

    def __init__(self, module: pl.LightningModule) -> None:
        self._is_offered = is_overridden("predict_step", module)
        self._batches: list[Mapping[str, torch.Tensor]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_offered and dataloader_idx == 0:
            with trainer.precision_plugin.predict_step_context():
                self._batches.append(_named(pl_module.predict_step(batch, batch_idx)))

    on_test_batch_end = on_validation_batch_end

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns one array (N, …) by name for all batches; empty if the module offers no predictions."""
        names = self._batches[0].keys() if self._batches else ()
        return {name: np.concatenate([_array(batch[name]) for batch in self._batches]) for name in names}


def _as_test(name: str) -> str:
    """Names a metric of the test split so that nobody takes it for one of another split."""
    return name if name.startswith("test") else f"test/{name}"


def _named(answer: Any) -> Mapping[str, torch.Tensor]:
    """Returns what `predict_step` answered, a tensor (N, …) or a mapping of them, as a mapping on the CPU."""
    named = answer if isinstance(answer, Mapping) else {"prediction": answer}
    if not all(torch.is_tensor(value) for value in named.values()):
        message = "predict_step returns neither a tensor (N, …) nor a mapping of tensors"
        raise InputError("model.module", type(answer).__name__, message, "change it")
    return {name: value.detach().cpu() for name, value in named.items()}


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy has no bfloat16
