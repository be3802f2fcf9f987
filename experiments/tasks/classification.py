"""The task that the workbench knows by itself: images and their classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
from mlflow.entities import DatasetInput

from experiments.artifact_names import CURVES_PLOT
from experiments.pictures import plots
from experiments.results import class_scores, data_report, predictions
from experiments.results.model import log_model
from experiments.tasks.inputs import image_inputs
from experiments.tasks.task import Task
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.stepping import compile_network, may_capture, say_if_mixed, steps_per_execution
from lightning_modules import ImageClassifier, ImageDataModule
from lightning_modules.metrics import METRICS
from lightning_modules.stepping.clipping import clipping


@dataclass(kw_only=True)
class Classification(Task):
    """An ImageClassifier and an ImageDataModule. `step_seconds`: what a training step takes."""

    module: ImageClassifier
    data: ImageDataModule
    step_seconds: float

    def inputs(self) -> list[DatasetInput]:
        return image_inputs(self.data)

    def record_data(self, run: TrackedRun) -> None:
        data_report.record(run, self.data)
        run.set_tags(class_scores.TAG)

    def execute_steps(self, callbacks: Sequence[pl.Callback]) -> Mapping[str, Any]:
        config, schedule, may = self.config.trainer, self.config.optimizer.schedule, may_capture(self.config)
        steps = steps_per_execution(config, schedule, callbacks, self.step_seconds, captured=may)
        self.data.steps_per_execution, self.data.in_stretches = steps, may
        compile_alone = partial(compile_network, self.module.network, config.compile)
        if steps == 1:
            if may:
                compile_alone()
            return {}
        clip = clipping(config.gradient_clip_val, config.gradient_clip_algorithm)
        if may:
            self.module.train_captured(clip, compiles=config.compile == "default", otherwise=compile_alone)
        else:
            say_if_mixed(self.config)
            self.module.train_in_chunks(clip)
        return {"gradient_clip_val": None, "gradient_clip_algorithm": None}

    def is_score(self, name: str) -> bool:
        return name.startswith(("train/", "val/"))

    def name_within_epoch(self, name: str) -> str | None:
        return None if name.startswith(("train/", "val/", "test/")) else name

    def throughput(self, seconds: float) -> dict[str, float]:
        return {"throughput/images_per_second": len(self.data.splits["train"]) / seconds}

    def record_training(self, run: TrackedRun, history: Sequence[Mapping[str, float]]) -> None:
        plots.plot_curves(history, self.config.trainer, run.path(CURVES_PLOT))

    def record_val(self, run: TrackedRun, trainer: pl.Trainer | None) -> None:
        if trainer is not None:
            trainer.validate(self.module, self.data, verbose=False)
        predictions.record(run, self.module, self.data, "val")

    def record_test(self, run: TrackedRun, trainer: pl.Trainer) -> dict[str, float]:
        (scores,) = trainer.test(self.module, self.data, verbose=False)
        predictions.record(run, self.module, self.data, "test")
        log_model(run, self.config.model, self.module, self.data)
        return dict(scores)

    def shown_scores(self, names: Sequence[str]) -> list[str]:
        every = [f"{split}/{metric}" for split in ("val", "test") for metric in METRICS]
        return [name for name in every if name in names]
