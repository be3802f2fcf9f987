"""One run: train → validate → test one configuration under a tracked run."""

import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from experiments import dashboard, plots, provenance
from experiments.config import ExperimentConfig, load_config
from experiments.interrupts import interruptible
from experiments.model import log_model
from experiments.store import Store
from experiments.trace import Trace
from experiments.tracking import Kind, Outcome, RunLogger, TrackedRun, close_dead_runs, create_run, open_run
from lightning_modules import ImageClassifier, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset

# Lightning's advertisements and hints for its own data loaders; torch's notice to Lightning.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended. `value` is `trainer.monitor` under the weights that the config keeps (`trainer.weights`)."""

    run_id: str
    name: str
    status: str
    outcome: Outcome
    error: str  # why the run failed; empty where it did not
    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)  # the last value of each
    artifact_uri: str
    dashboard_url: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class NonFiniteLossError(ArithmeticError):
    """Training diverged: a loss is NaN or infinite."""


def run(
    config: ExperimentConfig,
    *,
    name: str | None = None,
    kind: Kind = "train",
    store: Store | None = None,
    parent: str | None = None,
    tags: Mapping[str, str] = {},
    dataset: ImageDataset | None = None,
    callbacks: Sequence[pl.Callback] = (),
    read_test: bool = True,
) -> RunResult:
    """Trains `config` and leaves everything that design and README name in `store` (default: ./mlruns).

    `parent`: the run id of the sweep it belongs to. `dataset`: what the config's data source holds, already read.
    Without `read_test` the test split stays untouched, and no model is logged. A run whose loss becomes NaN or
    infinite is a result too, of outcome `failed`. InputError is raised before a run exists; whatever else training
    raises passes on once the run is closed.
    """
    store = store or Store.open()
    close_dead_runs(store)
    data, classifier = _prepare(config, dataset)
    name = name or config.experiment
    run_id = create_run(store, experiment=config.experiment, name=name, kind=kind, parent=parent, tags=tags)
    error = ""
    try:
        with interruptible(), open_run(store, run_id) as tracked:
            tracked.monitor_system()
            provenance.record(tracked, config, data)
            trainer = _fit(tracked, config, data, classifier, callbacks)
            if read_test:
                _test(tracked, trainer, classifier, data)
    except NonFiniteLossError as diverged:
        error = str(diverged)
    return _result(store, run_id, error)


def read_test(store: Store, run_id: str, *, dataset: ImageDataset | None = None) -> None:
    """Scores an ended run's kept weights on the test split, in the same run, and logs its model."""
    run_folder = Path(store.client.download_artifacts(run_id, ""))
    config = load_config(str(run_folder / "config.yaml"))
    data, classifier = _prepare(config, dataset)
    checkpoint = run_folder / "checkpoints" / f"{config.trainer.weights}.ckpt"
    step = _load_weights(classifier, checkpoint)
    with interruptible(), open_run(store, run_id) as tracked:
        _test(tracked, _trainer(config, logger=RunLogger(tracked, lambda: step)), classifier, data)


def _result(store: Store, run_id: str, error: str) -> RunResult:
    """What the store knows of an ended run."""
    ended = store.client.get_run(run_id)
    metrics = {name: number for name, number in ended.data.metrics.items() if not name.startswith("system/")}
    return RunResult(
        run_id=run_id,
        name=ended.info.run_name,
        status=ended.info.status,
        outcome=ended.data.tags["workbench.outcome"],
        error=error,
        value=metrics.get("value"),
        metrics=metrics,
        artifact_uri=ended.info.artifact_uri,
        dashboard_url=dashboard.run_url(store, ended.info.experiment_id, run_id),
    )


def _prepare(config: ExperimentConfig, dataset: ImageDataset | None) -> tuple[ImageDataModule, ImageClassifier]:
    """Data and classifier, ready to train; whatever is wrong with the input comes to light here."""
    torch.set_num_threads(config.trainer.threads or os.cpu_count() or 1)
    _trainer(config)
    data = ImageDataModule(config.data, seed=config.seed, dataset=dataset)
    data.setup()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    network = config.model.build(data.image_shape, data.num_classes)
    return data, ImageClassifier(network, loss=config.model.loss, optimizer=config.optimizer)


def _trainer(config: ExperimentConfig, logger: Any = False, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    try:
        return pl.Trainer(
            max_epochs=config.trainer.max_epochs,
            accelerator=config.trainer.accelerator,
            devices=1,
            precision=config.trainer.precision,
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except MisconfigurationException as error:
        reason = str(error).splitlines()[0]
        raise InputError("trainer.accelerator", config.trainer.accelerator, reason, "try auto or cpu") from error


def _fit(
    run: TrackedRun,
    config: ExperimentConfig,
    data: ImageDataModule,
    classifier: ImageClassifier,
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """Trains, loads the weights that the config keeps, and logs the run's value, curves and val predictions."""
    trace = Trace(run.folder / "trace.jsonl", data)
    checkpoints = _checkpoints(config, run.folder / "checkpoints")
    trainer = _trainer(
        config,
        logger=RunLogger(run, lambda: trainer.global_step),
        callbacks=[_Throughput(), trace, *checkpoints, _StopOnNonFiniteLoss(), *callbacks],
    )
    trainer.fit(classifier, data)
    monitored = [line[config.trainer.monitor] for line in trace.history]
    value = monitored[-1]
    if config.trainer.weights == "best":
        value = (max if config.trainer.monitor == "val/accuracy" else min)(monitored)
        _load_weights(classifier, Path(checkpoints[-1].best_model_path))
    (run.folder / "plots").mkdir(exist_ok=True)
    plots.plot_curves(trace.history, run.folder / "plots" / "curves.png")
    _predict(run, trainer, classifier, data, "val")
    run.log_metrics({"value": value}, trainer.global_step)  # a run that has it is trained and validated
    return trainer


def _checkpoints(config: ExperimentConfig, folder: Path) -> list[ModelCheckpoint]:
    """`last.ckpt` after every epoch, and `best.ckpt` where the config keeps the best weights; the kept one is last."""
    last = ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    if config.trainer.weights == "last":
        return [last]
    monitor = config.trainer.monitor
    mode = "max" if monitor == "val/accuracy" else "min"
    best = ModelCheckpoint(
        folder, "best", monitor=monitor, mode=mode, enable_version_counter=False, save_on_train_epoch_end=True
    )
    return [last, best]


def _load_weights(classifier: ImageClassifier, checkpoint: Path) -> int:
    """Loads the weights of a checkpoint; the optimizer step it was written at."""
    loaded = torch.load(checkpoint, weights_only=True, map_location="cpu")
    classifier.load_state_dict(loaded["state_dict"])
    return int(loaded["global_step"])


def _test(run: TrackedRun, trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule) -> None:
    trainer.test(classifier, data, verbose=False)
    _predict(run, trainer, classifier, data, "test")
    log_model(run, classifier, data)


def _predict(
    run: TrackedRun, trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule, split: str
) -> None:
    """Adds the split's predictions to `predictions.npz`, and draws where they are wrong."""
    loader = {"val": data.val_dataloader, "test": data.test_dataloader}[split]()
    batches: Any = trainer.predict(classifier, loader)
    probabilities = torch.cat(batches).float().numpy()
    label = probabilities.argmax(axis=1)
    subset = data.splits[split]
    target = subset.labels[subset.indices]
    path = run.folder / "predictions.npz"
    earlier: dict[str, Any] = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
    new = {f"{split}_label": label, f"{split}_probabilities": probabilities, f"{split}_target": target}
    np.savez(path, **(earlier | new))
    names = data.class_names
    folder = run.folder / "plots"
    plots.plot_confusion(target, label, names, f"{run.name}: {split}", folder / f"confusion_matrix_{split}.png")
    images = subset.images[subset.indices]
    plots.plot_mistakes(images, target, probabilities, names, split, folder / f"worst_mistakes_{split}.png")


class _Throughput(pl.Callback):
    """Logs the training images a second of each epoch, validation not counted."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds = time.perf_counter() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.datamodule, ImageDataModule)  # type: ignore[attr-defined]
        images = len(trainer.datamodule.splits["train"])  # type: ignore[attr-defined]
        pl_module.log("throughput/images_per_second", images / self._seconds)


class _StopOnNonFiniteLoss(Checkpoint):
    """Ends training after the first epoch whose loss is NaN or infinite; a Checkpoint, as `Trace` is."""

    def __init__(self) -> None:
        self._found: tuple[str, float, int] | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name in ("train/loss", "val/loss"):
            loss = float(trainer.callback_metrics[name])
            if not np.isfinite(loss):
                self._found = self._found or (name, loss, trainer.current_epoch + 1)
                trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._found:
            name, loss, epoch = self._found
            raise NonFiniteLossError(f"{name} is {loss} after epoch {epoch}; try a lower optimizer.lr")
