"""Runs one configuration as a tracked run: train → validate → test."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from experiments.artifact_names import BEST_CHECKPOINT, CONFIG, CURVES_PLOT, LAST_CHECKPOINT, PROVENANCE, TRACE
from experiments.code.kept import Code
from experiments.code.loading import watch
from experiments.config import ExperimentConfig, load_config
from experiments.errors import NonFiniteLossError, OutOfMemoryError, StoreError
from experiments.process.interrupts import interruptible
from experiments.process.setup import prepare_process
from experiments.provenance import gather as provenance
from experiments.provenance.origins import unrecorded
from experiments.provenance.record import read_provenance
from experiments.rehearsal import rehearse
from experiments.results import class_scores, data_report, plots, predictions
from experiments.results.model import log_model
from experiments.resume import check_resumable, take_over
from experiments.tracking import dashboard
from experiments.tracking.description import DESCRIPTION, describe_run, users_tags, with_notes
from experiments.tracking.lifecycle import RunKind, close_dead_runs, create_run, open_run, reopen_run
from experiments.tracking.run_logger import RunLogger
from experiments.tracking.runs import resolve_one
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import STATUS, Outcome, TrackedRun
from experiments.training.checkpoints import Checkpoints, epochs_done, load_weights
from experiments.training.epochs import Epoch, EpochEnd, Observer, begin, check_finite
from experiments.training.exact import set_exact
from experiments.training.memory import explain_out_of_memory
from experiments.training.trace import Trace, starting_point
from lightning_modules import ImageClassifier, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.parameters import load_given

# Fields of the config that Lightning's Trainer gets as they are.
_PASSED_ON = (
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "detect_anomaly"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches"),
)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run. `value` is the `trainer.monitor` score of the weights that `trainer.weights` keeps."""

    run_id: str
    name: str
    status: str
    outcome: Outcome
    error: str  # why the run failed; empty if it did not fail
    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)  # the last value of each
    artifact_uri: str
    dashboard_url: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Role:
    """A run's name, its kind and tags, and the earlier run that it continues."""

    name: str | None = None  # None: the name of the experiment
    kind: RunKind = "train"
    tags: Mapping[str, str] = field(default_factory=dict)
    read_test: bool = True  # if false, the test split is not used and no model is logged
    resumes: str | None = None  # an unfinished run of this configuration, which continues as the same MLflow run
    continues: str | None = None  # a run whose process died: the new run starts from its checkpoint if the inputs match
    code: Code | None = None  # the code to record; None: the project's, as this process began with it
    code_may_change: bool = False  # whether a resumed run may go on with other code than it began with


def run(
    config: ExperimentConfig,
    *,
    name: str | None = None,
    store: Store | None = None,
    read_test: bool = True,
    resume: str | None = None,
    code_may_change: bool = False,
    tags: Mapping[str, str] = {},
    notes: str | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> RunResult:
    """Trains `config` and writes everything that docs/train.md lists to `store` (default: ./mlruns).

    `resume`: the id of an unfinished run of this configuration. It continues after its last complete epoch and ends as
    if it had never stopped; code that it loads must be unchanged, unless `code_may_change`.
    `tags` and `notes` are the user's: MLflow's UI shows them, the notes above the description.
    `observers` are called after every epoch; `callbacks` are Lightning callbacks. If the loss
    becomes NaN or infinite, or memory runs out, the run returns a result with outcome `failed`. InputError is raised
    before a run exists. Any other error is raised after the run is closed; it is a StoreError if the store cannot be
    written.
    """
    tags = users_tags(tags, notes)
    role = Role(name=name, tags=tags, read_test=read_test, resumes=resume, code_may_change=code_may_change)
    return run_as(role, config, store or Store.open(), observers=observers, callbacks=callbacks)


def run_as(
    role: Role,
    config: ExperimentConfig,
    store: Store,
    *,
    dataset: ImageDataset | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> RunResult:
    """Like `run`, for runs of every kind. `dataset`: the data of the config's source, if already loaded."""
    prepare_process()
    since = watch().run_ended  # what was read since then was read for this run
    config = replace(config, trainer=replace(config.trainer, threads=config.trainer.threads or cores()))
    with ThreadPoolExecutor(1) as thread:  # the store opens while the data are read
        opening = thread.submit(close_dead_runs, store)
        data, classifier = prepare(config, dataset, store, logs_model=role.read_test)
    with store.telling_failures():
        if opening.exception() is not None:  # the server may have been unreachable; try again
            store.persist(partial(close_dead_runs, store))
        code = replace(role.code or provenance.code_for(config, store), since=since)
    start = starting_point(data, classifier)
    if role.resumes is not None:
        code = check_resumable(store, role.resumes, config, start, code, code_may_change=role.code_may_change)
    error = ""
    with interruptible(), store.telling_failures():
        name = role.name or config.experiment
        run_id = role.resumes or create_run(
            store, experiment=config.experiment, name=name, kind=role.kind, tags=role.tags
        )
        try:
            opened = reopen_run(store, run_id) if role.resumes else open_run(store, run_id)
            with opened as tracked, explain_out_of_memory(config):
                tracked.monitor_system()
                if role.resumes and role.tags:
                    tracked.set_tags(role.tags)
                if not epochs_done(tracked.folder):
                    provenance.record(tracked, config, data, code, _from_outside(callbacks))
                    data_report.record(tracked, data)
                if role.continues is not None:
                    take_over(store, role.continues, tracked.folder, config, start, code)
                with provenance.finished(tracked, code):
                    trainer = _fit(tracked, config, data, classifier, observers, callbacks)
                    if role.read_test:
                        _test(tracked, config, trainer, classifier, data, trainer.global_step)
                tracked.set_tags(_description(tracked, config) | class_scores.TAG)
        except (NonFiniteLossError, OutOfMemoryError) as failure:
            error = str(failure)
    return _result(tracked, error)


def _from_outside(callbacks: Sequence[pl.Callback]) -> list[str]:
    """Returns the classes of the callbacks that are not the workbench's own: they are not in the run's record."""
    classes = [type(callback) for callback in callbacks]
    own = ("experiments.", "sweeps.")
    return [f"{each.__module__}.{each.__qualname__}" for each in classes if not each.__module__.startswith(own)]


def read_test(store: Store, run_id: str, *, dataset: ImageDataset | None = None) -> None:
    """Scores the kept weights of an ended run on the test split, in the same run, and logs its model.

    Raises StoreError if the run's files are missing, for example because they are still queued on another host.
    """
    run_folder = Path(store.client.download_artifacts(run_id, ""))
    if not all((run_folder / name).exists() for name in (CONFIG, LAST_CHECKPOINT)):
        raise StoreError(store.folder, f"the files of run {run_id} are still in the spool of the host that trained it")
    since = watch().run_ended
    config = load_config(str(run_folder / CONFIG))
    data, classifier = prepare(config, dataset, store, logs_model=True)
    step = load_weights(classifier, run_folder / _kept_checkpoint(config))
    code = replace(provenance.code_for(config, store), since=since)
    kept = read_provenance(run_folder / PROVENANCE).get("code")
    if kept is not None:
        code = code.continuing(store.folder, kept, run_folder, "run", "", may_change=True)
    with interruptible(), reopen_run(store, run_id) as tracked:
        with provenance.finished(tracked, code) if kept is not None else nullcontext():
            _test(tracked, config, _trainer(config), classifier, data, step)
        tracked.set_tags(_description(tracked, config))


def _kept_checkpoint(config: ExperimentConfig) -> str:
    return BEST_CHECKPOINT if config.trainer.weights == "best" else LAST_CHECKPOINT


def _description(run: TrackedRun, config: ExperimentConfig) -> dict[str, str]:
    told = read_provenance(run.path(PROVENANCE))
    return {DESCRIPTION: with_notes(describe_run(config, run.latest, list(unrecorded(told))), run.tags)}


def _result(run: TrackedRun, error: str) -> RunResult:
    """Returns the result of an ended run, even if its data is still queued for the tracking server."""
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


def prepare(
    config: ExperimentConfig, dataset: ImageDataset | None, store: Store, *, logs_model: bool = False
) -> tuple[ImageDataModule, ImageClassifier]:
    """Returns the data and the classifier, ready to train. Raises InputError if any input is wrong."""
    set_exact(config.trainer.exact)
    torch.set_num_threads(config.trainer.threads or cores())
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.trainer.matmul_precision != "highest"  # for convolutions
    _check_accelerator(config.trainer.accelerator)
    trainer = _trainer(config)
    data = ImageDataModule(config.data, seed=config.seed, dataset=dataset)
    data.setup()
    config.trainer.make_callbacks()
    findings = rehearse(config, data, trainer, logs_model=logs_model)
    data.drops_single = findings.drops_single
    pl.seed_everything(config.seed, workers=True, verbose=False)
    network = config.model.build(data.image_shape, data.num_classes)
    if config.model.weights is not None:
        load_given(network, _file_of_weights(config.model.weights, store))
    if config.trainer.compile != "none":
        network.compile(mode={"default": "default", "cuda_graphs": "reduce-overhead"}[config.trainer.compile])
    return data, ImageClassifier(
        network,
        loss=config.model.build_loss(data.num_classes),
        class_weights=config.model.weigh_classes(data.splits["train"].targets),
        optimizer=config.optimizer,
        metrics=config.trainer.own_metrics(),
        memory_format=findings.memory_format,
    )


def _file_of_weights(weights: str, store: Store) -> Path:
    """Returns the file that `model.weights` means: itself, or the checkpoint that a run kept."""
    if is_file_of_weights(weights):
        return Path(weights)
    try:
        run_id = resolve_one(store, weights).run_id
    except InputError as error:
        remedy = "give a run, a .ckpt or a .safetensors file"
        raise InputError("model.weights", weights, error.message, remedy) from error
    kept = Path(store.client.download_artifacts(run_id, str(Path(LAST_CHECKPOINT).parent)))
    best, last = (kept / Path(name).name for name in (BEST_CHECKPOINT, LAST_CHECKPOINT))
    return best if best.exists() else last


def _check_accelerator(name: str) -> None:
    """Raises InputError if this machine has no such accelerator."""
    is_missing = {"cuda": lambda: not torch.cuda.is_available(), "mps": lambda: not torch.backends.mps.is_available()}
    if name in is_missing and is_missing[name]():
        remedy = "write auto, which takes a GPU if there is one, or cpu"
        raise InputError("trainer.accelerator", name, "torch finds no such device on this machine", remedy)


def is_file_of_weights(weights: str) -> bool:
    """Whether `model.weights` means a file, and not a run."""
    return Path(weights).is_file() or Path(weights).suffix in {".safetensors", ".ckpt"}


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
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
            enable_checkpointing=bool(callbacks),  # Lightning requires this for EpochEnd, which is a Checkpoint
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{name: value for name in _PASSED_ON if (value := getattr(config.trainer, name)) is not None},
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
) -> pl.Trainer:
    """Trains, loads the weights that the config keeps, and logs the value, the curves and the val predictions."""

    def log_scores(epoch: Epoch) -> None:
        speed = len(data.splits["train"]) / epoch.train_seconds
        run.log_metrics(epoch.scores | {"throughput/images_per_second": speed}, epoch.step)
        run.flush_metrics()  # an epoch's metrics must be in the store before its checkpoint is written

    done = epochs_done(run.folder)
    trace = Trace(run.path(TRACE), data, classifier, epochs=done)
    for line in trace.history:  # an earlier process may have been killed before it logged these
        run.log_metrics({name: line[name] for name in line.keys() - {"epoch", "step"}}, int(line["step"]))
    checkpoints = Checkpoints(run.folder, config.trainer, trace.history)
    epoch_end = EpochEnd([trace, log_scores, checkpoints, check_finite, *observers])
    begin(observers, trace.history)
    trainer = _trainer(config, RunLogger(run), [epoch_end, *config.trainer.make_callbacks(), *callbacks])
    checkpoint = run.folder / LAST_CHECKPOINT if done else None
    trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
    monitored = [line[config.trainer.monitor] for line in trace.history]
    value = monitored[-1]
    if config.trainer.weights == "best":
        value = max(monitored, key=lambda score: config.trainer.sign * score)
        load_weights(classifier, run.folder / BEST_CHECKPOINT)
    if config.trainer.weights == "best" or done == config.trainer.max_epochs:
        _trainer(config).validate(classifier, data, verbose=False)  # to get the predictions of these weights
    plots.plot_curves(trace.history, run.path(CURVES_PLOT))
    predictions.record(run, classifier, data, "val")
    run.log_metrics({"value": value}, trainer.global_step)  # a run with a value is fully trained and validated
    return trainer


def _test(
    run: TrackedRun,
    config: ExperimentConfig,
    trainer: pl.Trainer,
    classifier: ImageClassifier,
    data: ImageDataModule,
    step: int,
) -> None:
    (scores,) = trainer.test(classifier, data, verbose=False)
    run.log_metrics(scores, step)
    predictions.record(run, classifier, data, "test")
    log_model(run, config.model, classifier, data)
