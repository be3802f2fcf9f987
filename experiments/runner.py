"""Runs one configuration as a tracked run: train → validate → test."""

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler

from experiments.artifact_names import BEST_CHECKPOINT, CONFIG, LAST_CHECKPOINT, PROVENANCE, TRACE, TRACEBACK
from experiments.code.kept import Code
from experiments.code.loading import watch
from experiments.code.snapshot import PROJECT
from experiments.config import ExperimentConfig, load_config
from experiments.dashboard.links import run_url
from experiments.distributed.follow import follow
from experiments.distributed.together import Together, together
from experiments.errors import NonFiniteLossError, OutOfMemoryError, Pruned, StoreError, TakenOver
from experiments.names import check_name
from experiments.notebook import Link, Shown, table
from experiments.process.interrupts import interruptible
from experiments.process.redaction import without_credentials
from experiments.process.setup import prepare_process
from experiments.provenance import gather as provenance
from experiments.provenance.origins import unrecorded
from experiments.provenance.record import read_provenance
from experiments.results.listed_model import listed_model
from experiments.resume import check_resumable, take_over
from experiments.tasks.prepare import cores, prepare
from experiments.tasks.task import Task
from experiments.tracking.description import DESCRIPTION, describe_run, users_tags, with_notes
from experiments.tracking.lifecycle import RunKind, close_dead_runs, create_run, open_run, reopen_run
from experiments.tracking.run_logger import RunLogger
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import IN_EPOCHS, STATUS, Outcome, TrackedRun, counts_epochs, step_of
from experiments.training.checkpoints import Checkpoints, epochs_done, load_weights
from experiments.training.devices import Place, launched, place_of, with_place, with_threads
from experiments.training.epochs import Epoch, EpochEnd, Observer, begin, check_finite
from experiments.training.kept import kept_checkpoint, superfluous
from experiments.training.memory import explain_out_of_memory
from experiments.training.progress import showing
from experiments.training.trace import Trace, read_trace, starting_point
from experiments.training.trainer import make_trainer
from lightning_modules import InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.log import LOG


@dataclass(frozen=True, kw_only=True)
class RunResult(Shown):
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

    def html_parts(self) -> list[str]:
        run = Link(f"{self.name} ({self.run_id[:8]})", self.dashboard_url)
        ends = [(self.outcome, run), *([("error", self.error)] if self.error else [])]
        return [table(("run", ""), [*ends, *sorted(self.metrics.items())])]

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row."""
        return [{"run_id": self.run_id, "name": self.name, "outcome": self.outcome, **self.metrics}]


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
    progress: bool | None = None,
) -> RunResult:
    """Trains `config` and writes everything that docs/train.md lists to `store` (default: ./mlruns).

    `resume`: the id of an unfinished run of this configuration. It continues after its last complete epoch and ends as
    if it had never stopped; code that it loads must be unchanged, unless `code_may_change`.
    `tags` and `notes` are the user's: MLflow's UI shows them, the notes above the description.
    `observers` are called after every epoch; `callbacks` are Lightning callbacks. `progress`: whether to show it; None:
    only on a terminal or in a notebook. If the loss becomes NaN or infinite, or memory runs out, the run returns a
    result with outcome `failed`. InputError is raised before a run exists. Any other error is raised after the run is
    closed; it is a StoreError if the store cannot be written.

    With several `trainer.devices`, this process starts the others (docs/at_scale.md). If torchrun or Slurm has started
    them, each calls this function: the process of rank 0 has the run, and the results of the others have no `run_id`.
    """
    tags = users_tags(tags, notes)
    place = launched()
    if place is not None:
        config = with_place(config, place)
        if place.rank > 0:
            return _followed(config, place, name or config.experiment)
    if name is not None:
        check_name("--name", name)
    role = Role(name=name, tags=tags, read_test=read_test, resumes=resume, code_may_change=code_may_change)
    with showing(progress) as (shown, moving):
        observers, callbacks = [*shown, *observers], [*moving, *callbacks]
        return run_as(role, config, store or Store.open(), observers=observers, callbacks=callbacks, place=place)


def _followed(config: ExperimentConfig, place: Place, name: str) -> RunResult:
    """Trains together with the process that has the run."""
    prepare_process()
    LOG.setLevel(logging.ERROR)  # the process of rank 0 says the same
    watch()
    scores = follow(with_threads(config, place, cores()), place, cores())
    return RunResult(
        run_id="",
        name=name,
        status=STATUS["finished"],
        outcome="finished",
        error="",
        value=scores.get(config.trainer.monitor),
        metrics=scores,
        artifact_uri="",
        dashboard_url="",
    )


def run_as(
    role: Role,
    config: ExperimentConfig,
    store: Store,
    *,
    dataset: ImageDataset | None = None,
    observers: Sequence[Observer] = (),
    callbacks: Sequence[pl.Callback] = (),
    place: Place | None = None,
) -> RunResult:
    """Like `run`, for runs of every kind. `dataset`: the data of the config's source, if already loaded.

    `place`: if other processes that train the run have been started; this one has rank 0.
    """
    prepare_process()
    place = place or place_of(config.trainer)
    config = with_threads(config, place, cores())
    if place.processes > 1 and (given := _from_outside(callbacks)):
        message = f"the other {place.processes - 1} processes that train the run have no such object"
        raise InputError("callbacks", ", ".join(given), message, "name it in trainer.callbacks")
    with together(config, place, cores()) as others:
        return _run(role, config, store, dataset, observers, callbacks, others)


def _run(
    role: Role,
    config: ExperimentConfig,
    store: Store,
    dataset: ImageDataset | None,
    observers: Sequence[Observer],
    callbacks: Sequence[pl.Callback],
    others: Together | None,
) -> RunResult:
    since = watch().run_ended  # what was read since then was read for this run
    with ThreadPoolExecutor(1) as thread:  # the store opens while the data are read
        opening = thread.submit(close_dead_runs, store)
        task = prepare(config, dataset, store, reads_test=role.read_test)
        if others is not None:
            others.check(task)
    with store.telling_failures():
        if opening.exception() is not None:  # the server may have been unreachable; try again
            store.persist(partial(close_dead_runs, store))
        code = replace(role.code or provenance.code_for(config, store), since=since)
    start = starting_point(task.digests, task.module)
    if role.resumes is not None:
        code = check_resumable(store, role.resumes, config, start, code, code_may_change=role.code_may_change)
    error = ""
    with interruptible(), store.telling_failures():
        name = role.name or config.experiment
        tags = {**IN_EPOCHS, **role.tags}
        run_id = role.resumes or create_run(store, experiment=config.experiment, name=name, kind=role.kind, tags=tags)
        try:
            opened = reopen_run(store, run_id) if role.resumes else open_run(store, run_id)
            with opened as tracked, _failure_told(tracked, task), explain_out_of_memory(config):
                tracked.monitor_system()
                if role.resumes and role.tags:
                    tracked.set_tags(role.tags)
                if not epochs_done(tracked.folder):
                    given = _from_outside(callbacks)
                    provenance.record(tracked, config, task.digests, task.inputs(), code, given)
                    task.record_data(tracked)
                if role.continues is not None:
                    take_over(store, role.continues, tracked.folder, config, start, code)
                with provenance.finished(tracked, code):
                    trainer = _fit(tracked, task, observers, callbacks, others)
                    if role.read_test:
                        _test(tracked, task, trainer)
                tracked.set_tags(_description(tracked, task))
                keep = config.trainer.keep_checkpoints, config.trainer.weights
                tracked.superfluous |= superfluous(*keep, is_finalist=role.kind == "finalist")
        except (NonFiniteLossError, OutOfMemoryError) as failure:
            error = str(failure)
    return _result(tracked, error)


@contextmanager
def _failure_told(run: TrackedRun, task: Task) -> Iterator[None]:
    """If the run fails, says why in its description, and keeps the traceback as an artifact."""
    if run.path(TRACEBACK).exists():  # of an earlier process, from which the run is resumed
        run.superfluous.add(TRACEBACK)
    try:
        yield
    except (Pruned, TakenOver):
        raise
    except Exception as error:
        with suppress(Exception):  # the store may be what failed
            text = without_credentials("".join(traceback.format_exception(error)))
            for folder, name in ((PROJECT, "."), (Path.home(), "~")):  # a record names no place of this machine
                text = text.replace(f"{folder}/", f"{name}/")
            run.path(TRACEBACK).write_text(text, encoding="utf-8")
            run.set_tags(_description(run, task, f"{type(error).__name__}: {error}"))
        raise


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
    waits = StoreError(store.folder, f"the files of run {run_id} are still in the spool of the host that trained it")
    if not (run_folder / CONFIG).exists():
        raise waits
    since = watch().run_ended
    config = load_config(str(run_folder / CONFIG))
    kept_weights = run_folder / kept_checkpoint(config.trainer.weights)
    if not kept_weights.exists():
        raise waits
    task = prepare(config, dataset, store, reads_test=True)
    load_weights(task.module, kept_weights)
    code = replace(provenance.code_for(config, store), since=since)
    kept = read_provenance(run_folder / PROVENANCE).get("code")
    if kept is not None:
        code = code.continuing(store.folder, kept, run_folder, "run", "", may_change=True)
    ended = store.client.get_run(run_id).info.end_time
    with interruptible(), reopen_run(store, run_id) as tracked, _failure_told(tracked, task):
        tracked.pause = int(1000 * time.time()) - ended if ended else 0  # the run only waited for its test
        with provenance.finished(tracked, code) if kept is not None else nullcontext():
            _test(tracked, task, make_trainer(config))
        tracked.set_tags(_description(tracked, task))


def _description(run: TrackedRun, task: Task, failure: str = "") -> dict[str, str]:
    told = read_provenance(run.path(PROVENANCE))
    scores = {name: run.latest[name] for name in task.shown_scores(list(run.latest))}
    described = describe_run(task.config, scores, list(unrecorded(told)), failure)
    return {DESCRIPTION: with_notes(described, run.tags)}


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
        dashboard_url=run_url(run.store, run.experiment_id, run.run_id),
    )


def _fit(
    run: TrackedRun,
    task: Task,
    observers: Sequence[Observer],
    callbacks: Sequence[pl.Callback],
    others: Together | None,
) -> pl.Trainer:
    """Trains, loads the weights that the config keeps, and logs the value, the curves and the val predictions.

    `others`: the processes that train with this one. Returns a Trainer that can test.
    """
    config = task.config.trainer

    def log_scores(epoch: Epoch) -> None:
        _log_epoch(run, epoch.number, epoch.step, epoch.scores | task.throughput(epoch.train_seconds))
        run.flush_metrics()  # an epoch's metrics must be in the store before its checkpoint is written

    done = epochs_done(run.folder)
    trace = Trace(run.path(TRACE), task.digests, task.module, epochs=done)
    for line in trace.history:  # an earlier process may have been killed before it logged these
        scores = {name: line[name] for name in line.keys() - {"epoch", "step"}}
        _log_epoch(run, int(line["epoch"]), int(line["step"]), scores)
    checkpoints = Checkpoints(run.folder, config, trace.history)
    epoch_end = EpochEnd(
        [lambda _: run.check_owned(), trace, log_scores, checkpoints, check_finite, *observers], task.is_score
    )
    begin(observers, trace.history)
    logger = RunLogger(run, task.name_within_epoch)
    more = {} if config.profiler is None else {"profiler": _profiler(config.profiler, run.folder)}
    all_callbacks = [epoch_end, *config.make_callbacks(), *callbacks]
    more |= task.execute_steps(all_callbacks)
    checkpoint = run.folder / LAST_CHECKPOINT if done else None
    if others is None:
        trainer = make_trainer(task.config, logger, all_callbacks, **more)
        trainer.fit(task.module, task.data, ckpt_path=checkpoint, weights_only=True)
    else:
        others.fit(task, logger, all_callbacks, checkpoint, **more)
        trainer = make_trainer(task.config)
    epoch: Mapping[str, float] = trace.history[-1]
    if config.weights == "best":
        epoch = config.best_epoch(trace.history) or epoch
        load_weights(task.module, run.folder / BEST_CHECKPOINT)
    is_anew = config.weights == "best" or done == config.max_epochs  # no pass over val had these weights
    task.record_training(run, trace.history)
    task.record_val(run, make_trainer(task.config) if is_anew else None)
    # A run with a value is fully trained and validated.
    run.log_metrics({"value": epoch[config.monitor]}, _last_step(run))
    return trainer


def _log_epoch(run: TrackedRun, epoch: int, optimizer_steps: int, metrics: Mapping[str, float]) -> None:
    progress = {"progress/optimizer_steps": optimizer_steps} if counts_epochs(run.tags) else {}
    run.log_metrics({**metrics, **progress}, step_of(run.tags, epoch, optimizer_steps))


def _last_step(run: TrackedRun) -> int:
    """Returns the step of the last epoch's scores."""
    last = read_trace(run.path(TRACE))[-1]
    return step_of(run.tags, last["epoch"], last["step"])


def _profiler(kind: str, folder: Path) -> Profiler:
    """Returns Lightning's profiler, which writes its report into the run's folder."""
    made = SimpleProfiler if kind == "simple" else AdvancedProfiler
    return made(dirpath=folder, filename="profile")


def _test(run: TrackedRun, task: Task, trainer: pl.Trainer) -> None:
    scores = task.record_test(run, trainer)
    model = listed_model(run, task.config, task.inputs(), scores)
    if model is None:
        run.log_metrics(scores, _last_step(run))
    else:
        run.log_model(model, scores, _last_step(run))
