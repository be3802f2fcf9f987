"""One run: train → validate → test one configuration under a tracked run."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from experiments.config import ExperimentConfig, load_config
from experiments.process.interrupts import interruptible
from experiments.process.memory import OutOfMemoryError, naming_batch_size
from experiments.provenance import gather as provenance
from experiments.results import class_scores, data_report, plots
from experiments.results.model import log_model
from experiments.resume import check_resumable, take_over
from experiments.tracking import dashboard
from experiments.tracking.description import describe_run
from experiments.tracking.store import Store, StoreError
from experiments.tracking.tracked_run import (
    STATUS,
    Kind,
    Outcome,
    RunLogger,
    TrackedRun,
    close_dead_runs,
    create_run,
    open_run,
    reopen_run,
)
from experiments.training.checkpoints import Checkpoints, epochs_done, load_weights
from experiments.training.epochs import Epoch, EpochEnd, NonFiniteLossError, Observer, check_finite
from experiments.training.exact import set_exact
from experiments.training.trace import Trace, starting_point
from lightning_modules import ImageClassifier, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.metrics import sign_of

# Lightning's advertisements and hints for its own data loaders; torch's notice to Lightning.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated")


Begun = Callable[[Sequence[dict[str, float]]], None]  # takes one dict an epoch: `epoch`, `step` and scores


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


def run(
    config: ExperimentConfig,
    *,
    name: str | None = None,
    kind: Kind = "train",
    store: Store | None = None,
    parent: str | None = None,
    tags: Mapping[str, str] = {},
    dataset: ImageDataset | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[pl.Callback] = (),
    read_test: bool = True,
    resume: str | None = None,
    continues: str | None = None,
    begun: Begun = lambda history: None,
) -> RunResult:
    """Trains `config` and leaves everything that design and README name in `store` (default: ./mlruns).

    `parent`: the run id of the sweep it belongs to. `dataset`: what the config's data source holds, already read.
    `observers` are called after every epoch, `callbacks` are Lightning's own.
    Without `read_test` the test split stays untouched, and no model is logged. `resume`: the id of a run of this
    configuration that did not finish; it goes on after its last whole epoch, in the same MLflow run, and ends as it
    would have ended at once. `continues`: the id of a run of this configuration whose process died; the new run begins
    with its epochs, as far as there is a checkpoint that fits. `begun` is called with the scores of those epochs.
    A run whose loss becomes NaN or infinite, or that memory does not suffice for, is a result too, of outcome `failed`.
    InputError is raised before a run exists; whatever else training raises passes on once the run is closed, as a
    StoreError where the store could not be written.
    """
    store = store or Store.open()
    config = replace(config, trainer=replace(config.trainer, threads=config.trainer.threads or cores()))
    with ThreadPoolExecutor(1) as thread:  # the store opens while the data are read
        opening = thread.submit(close_dead_runs, store)
        data, classifier = prepare(config, dataset)
        tries: Iterator[Callable[[], object]] = chain([opening.result], repeat(partial(close_dead_runs, store)))
        with store.telling_failures():
            store.persist(lambda: next(tries)())
    name = name or config.experiment
    if resume is not None:
        check_resumable(store, resume, config, starting_point(data, classifier))
    error = ""
    with interruptible(), store.telling_failures():
        run_id = resume or create_run(
            store, experiment=config.experiment, name=name, kind=kind, parent=parent, tags=tags
        )
        try:
            with reopen_run(store, run_id) if resume else open_run(store, run_id) as tracked, naming_batch_size(config):
                tracked.monitor_system()
                if not epochs_done(tracked.folder):
                    provenance.record(tracked, config, data)
                    data_report.record(tracked, data)
                if continues is not None:
                    take_over(store, continues, tracked.folder, config, starting_point(data, classifier))
                trainer = _fit(tracked, config, data, classifier, observers, callbacks, begun)
                if read_test:
                    _test(tracked, trainer, classifier, data)
                tracked.set_tags({"mlflow.note.content": describe_run(config, tracked.latest), **class_scores.TAG})
        except (NonFiniteLossError, OutOfMemoryError) as failure:
            error = str(failure)
    return _result(tracked, error)


def read_test(store: Store, run_id: str, *, dataset: ImageDataset | None = None) -> None:
    """Scores an ended run's kept weights on the test split, in the same run, and logs its model.

    Raises StoreError where the run's files are not there, as while they wait for the tracking server on another host.
    """
    run_folder = Path(store.client.download_artifacts(run_id, ""))
    if not all((run_folder / name).exists() for name in ("config.yaml", "checkpoints/last.ckpt")):
        raise StoreError(store.folder, f"the files of run {run_id} wait in the spool of the host that trained it")
    config = load_config(str(run_folder / "config.yaml"))
    data, classifier = prepare(config, dataset)
    checkpoint = run_folder / "checkpoints" / f"{config.trainer.weights}.ckpt"
    step = load_weights(classifier, checkpoint)
    with interruptible(), reopen_run(store, run_id) as tracked:
        _test(tracked, _trainer(config, RunLogger(tracked, lambda: step)), classifier, data)
        tracked.set_tags({"mlflow.note.content": describe_run(config, tracked.latest)})


def _result(run: TrackedRun, error: str) -> RunResult:
    """What is known of an ended run, also where it waits for its tracking server."""
    assert run.outcome is not None
    return RunResult(
        run_id=run.run_id,
        name=run.name,
        status=STATUS[run.outcome],
        outcome=run.outcome,
        error=error,
        value=run.latest.get("value"),
        metrics=run.latest,
        artifact_uri=run.artifact_uri,
        dashboard_url=dashboard.run_url(run.store, run.experiment_id, run.run_id),
    )


def prepare(config: ExperimentConfig, dataset: ImageDataset | None) -> tuple[ImageDataModule, ImageClassifier]:
    """Data and classifier, ready to train; whatever is wrong with the input comes to light here."""
    set_exact(config.trainer.exact)
    torch.set_num_threads(config.trainer.threads or cores())
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.trainer.matmul_precision != "highest"  # of convolutions
    _trainer(config)  # raises where the accelerator is not to be had
    data = ImageDataModule(config.data, seed=config.seed, dataset=dataset)
    data.setup()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    network = config.model.build(data.image_shape, data.num_classes)
    if config.trainer.compile != "none":
        network.compile(mode={"default": "default", "cuda_graphs": "reduce-overhead"}[config.trainer.compile])
    class_weights = config.model.weigh_classes(data.splits["train"].targets)
    return data, ImageClassifier(
        network, loss=config.model.loss, class_weights=class_weights, optimizer=config.optimizer
    )


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trainer(config: ExperimentConfig, logger: Any = False, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    try:
        return pl.Trainer(
            max_epochs=config.trainer.max_epochs,
            accelerator=config.trainer.accelerator,
            devices=1,
            precision=config.trainer.precision,
            logger=logger,
            callbacks=list(callbacks),
            enable_checkpointing=bool(callbacks),  # Lightning wants it for EpochEnd, which is a Checkpoint
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
    observers: Sequence[Observer],
    callbacks: Sequence[pl.Callback],
    begun: Begun,
) -> pl.Trainer:
    """Trains, loads the weights that the config keeps, and logs the run's value, curves and val predictions."""

    def log_throughput(epoch: Epoch) -> None:
        images = len(data.splits["train"])
        run.log_metrics({"throughput/images_per_second": images / epoch.train_seconds}, epoch.step)
        run.flush_metrics()  # what a checkpoint's epoch measured is in the store before the checkpoint is

    done, folder = epochs_done(run.folder), run.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    trace = Trace(run.folder / "trace.jsonl", data, classifier, epochs=done)
    for line in trace.history:  # an earlier process may have been killed before these were written
        run.log_metrics({name: line[name] for name in line.keys() - {"epoch", "step"}}, int(line["step"]))
    begun(trace.history)
    checkpoints = Checkpoints(folder, config.trainer, trace.history)
    epoch_end = EpochEnd([trace, log_throughput, checkpoints, check_finite, *observers])
    trainer = _trainer(config, RunLogger(run, lambda: trainer.global_step), [epoch_end, *callbacks])
    trainer.fit(classifier, data, ckpt_path=folder / "last.ckpt" if done else None, weights_only=True)
    monitored = [line[config.trainer.monitor] for line in trace.history]
    value = monitored[-1]
    if config.trainer.weights == "best":
        value = max(monitored, key=lambda score: sign_of(config.trainer.monitor) * score)
        load_weights(classifier, folder / "best.ckpt")
    if config.trainer.weights == "best" or done == config.trainer.max_epochs:
        _trainer(config).validate(classifier, data, verbose=False)  # for the predictions of these weights
    (run.folder / "plots").mkdir(exist_ok=True)
    plots.plot_curves(trace.history, run.folder / "plots" / "curves.png")
    _record_predictions(run, classifier, data, "val")
    run.log_metrics({"value": value}, trainer.global_step)  # a run that has it is trained and validated
    return trainer


def _test(run: TrackedRun, trainer: pl.Trainer, classifier: ImageClassifier, data: ImageDataModule) -> None:
    trainer.test(classifier, data, verbose=False)
    _record_predictions(run, classifier, data, "test")
    log_model(run, classifier, data)


def _record_predictions(run: TrackedRun, classifier: ImageClassifier, data: ImageDataModule, split: str) -> None:
    """Adds the split's predictions to `predictions.npz`, scores them by class, and draws where they are wrong."""
    probabilities = classifier.probabilities[split].numpy()
    label = probabilities.argmax(axis=1)
    subset = data.splits[split]
    target = subset.targets
    path = run.folder / "predictions.npz"
    predictions: dict[str, Any] = {}
    if path.exists():
        with np.load(path, allow_pickle=False) as earlier:
            predictions |= earlier
    predictions |= {f"{split}_label": label, f"{split}_probabilities": probabilities, f"{split}_target": target}
    np.savez(path.with_stem("new"), **predictions)
    path.with_stem("new").replace(path)
    names = data.class_names
    class_scores.write_table(class_scores.class_scores(predictions, names), run.folder / class_scores.FILE)
    folder = run.folder / "plots"
    plots.plot_confusion(target, label, names, f"{run.name}: {split}", folder / f"confusion_matrix_{split}.png")
    plots.plot_mistakes(subset, probabilities, names, split, folder / f"worst_mistakes_{split}.png")
