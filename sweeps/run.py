"""Runs a sweep to its end, or resumes it: search, finalists, champion, report."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
import yaml
from mlflow.exceptions import MlflowException

from experiments.artifact_names import CONFIG
from experiments.code.own import own_folders, own_module_names
from experiments.process.interrupts import interruptible
from experiments.process.setup import prepare_process
from experiments.provenance.gather import code_for, keep_bundle
from experiments.tasks.prepare import cores, prepare
from experiments.tracking.lifecycle import create_run, open_run, reopen_run
from experiments.tracking.spool import deliver
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.trace import Digests
from experiments.upkeep.checkpoints import drop_trial_checkpoints
from lightning_modules import InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.log import LOG
from sweeps.config import Sweep
from sweeps.engines import local, worker
from sweeps.engines.gpus import shares_of_gpus
from sweeps.progress import SweepProgress, showing
from sweeps.report.live import Live
from sweeps.report.publish import publish
from sweeps.report.result import SweepResult, gather
from sweeps.strategy.space import Point
from sweeps.study.failures import FirstFailures
from sweeps.study.finalists import Finals, champion_of, read_test
from sweeps.study.reconcile import reconcile
from sweeps.study.search import Search
from sweeps.study.stage import Stage, best_trials, counted

EngineName = Literal["local", "ray"]

_Work = Callable[..., None]  # runs a stage's trials until no slot is open, like sweeps.engines.worker.work
_STRUCTURE = ("model.", "data.", "optimizer.kind", "optimizer.args.", "optimizer.schedule.kind", "trainer.precision")
_REHEARSED = 16  # combinations of these fields that are tried before the first trial
_POLL = 1.0  # seconds between two checks on the trials of other commands


def run(
    sweep: Sweep,
    *,
    store: Store | None = None,
    workers: int | None = 1,
    engine: EngineName = "local",
    address: str | None = None,
    code_may_change: bool = False,
    progress: bool | None = None,
) -> SweepResult:
    """Runs trials until the budget is used up, then the finalists; returns the result with the champion.

    `workers` trials run at a time. With engine `local`, one worker runs in this process, and None means one worker per
    core; with engine `ray`, None means as many as fit into the cluster at `address`. Running a sweep again resumes it;
    the budget counts the trials of all starts; code that it loads must be unchanged, unless `code_may_change`. Several
    processes may run the same sweep together. `progress`: whether to show it; None: only on a terminal or in a
    notebook.

    Raises InputError before anything is written. Raises SweepStoppedError or StoreError if the sweep cannot continue;
    its results so far stay in the store.
    """
    prepare_process()
    if engine == "local" and workers != 1:
        local.warm_up(_own_modules(sweep))
    store = store or Store.open()
    dataset = load_dataset(sweep.base.data) if sweep.base.data.module is None else None
    data_sha256 = _rehearse(sweep, dataset, store)
    with store.telling_failures():
        code = code_for(sweep.base, store)
    with (
        showing(sweep, progress) as shown,
        interruptible(),
        store.telling_failures(),
        _engine(engine, sweep, store, dataset, workers, address) as (work, at_a_time),
        Search.open(store, sweep, data_sha256, code) as opened,
        _sweep_run(search := opened.going_on(code_may_change=code_may_change)) as tracked,
    ):
        keep_bundle(tracked, search.code)
        tree = search.sweep.config_tree()
        tracked.path(CONFIG).write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        live = Live(search, tracked)
        live.begin()
        with _followed(search, shown, at_a_time):
            _fill(search, tracked, dataset, work, shown, live)
        with Finals.open(store, sweep, data_sha256, search.code) as finals:
            with _followed(finals, shown, at_a_time):
                _fill(finals, tracked, dataset, work, shown, live)
            return search.storage.persist(partial(_conclude, search, finals, tracked, dataset))


def _own_modules(sweep: Sweep) -> list[str]:
    """Returns the names of the user's modules; none if they use a GPU already, which forked processes cannot share."""
    uses_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [] if uses_gpu else own_module_names(own_folders(sweep.base.tree()))


def _rehearse(sweep: Sweep, dataset: ImageDataset | None, store: Store) -> str:
    """Rehearses every combination of the fields that decide what a network is, or the first ones if there are many.

    Returns the SHA-256 of the data, at the first of them. All must have the same val split.

    Raises InputError now instead of in every trial. The other combinations are rehearsed when a trial has them first.
    """
    seen: list[Point] = []
    digests: list[Digests] = []
    for corner in sweep.space.corners():
        structure = {path: value for path, value in corner.items() if path.startswith(_STRUCTURE)}
        if structure in seen or len(seen) == _REHEARSED:
            continue
        seen.append(structure)
        try:
            digests.append(prepare(sweep.trial_config(corner, 0), dataset, store).digests)
        except InputError as error:
            at = f", at {structure}" if structure else ""
            raise InputError(str(error.field), error.value, f"{error.message}{at}", error.remedy) from error
        if digests[-1].splits.get("val") != digests[0].splits.get("val"):
            remedy = "trials must be scored on the same data: search other arguments"
            raise InputError("space", structure, "changes what data.module serves for validation", remedy)
    return digests[0].data


def _conclude(search: Search, finals: Finals, tracked: TrackedRun, dataset: ImageDataset | None) -> SweepResult:
    """Scores the champion on the test split, publishes the sweep's result, and removes its trials' checkpoints."""
    with search.storage.lock(f"finalists-{search.sweep.name}"):
        search.store.persist(partial(deliver, search.store))
        finalists = finals.finalists()
        champion = champion_of(finalists, search.sweep.config.objective.sign)
        if champion is not None:
            read_test(search.store, champion, dataset)
        result = gather(search, tracked, finalists, champion)
        publish(search, tracked, result)
        drop_trial_checkpoints(search.store, tracked.run_id)
        return result


@contextmanager
def _engine(
    name: EngineName, sweep: Sweep, store: Store, dataset: ImageDataset | None, workers: int | None, address: str | None
) -> Iterator[tuple[_Work, int]]:
    """Starts the engine for a `with` block; yields the function that runs a stage's trials, and how many at a time."""
    if name == "local":
        if address is not None:
            raise InputError("--address", address, "is only for a Ray cluster", "add --engine ray or remove --address")
        gpus = shares_of_gpus(sweep.config.resources.gpus, workers, cores())
        yield (worker.work if len(gpus) == 1 else partial(local.work, gpus=gpus)), len(gpus)
        return
    try:
        from sweeps.engines import ray
    except ModuleNotFoundError as error:
        remedy = "pip install 'lightning-workbench[ray]' -c constraints.txt"
        raise InputError("--engine", name, f"Ray is not installed: {error}", remedy) from error
    with ray.connected(sweep, store, dataset, workers=workers, address=address) as cluster:
        yield cluster.work, cluster.workers


def _followed(stage: Stage, progress: SweepProgress | None, at_a_time: int) -> AbstractContextManager[None]:
    return nullcontext() if progress is None else progress.following(stage, at_a_time)


def _fill(
    stage: Stage,
    tracked: TrackedRun,
    dataset: ImageDataset | None,
    work: _Work,
    progress: SweepProgress | None,
    live: Live,
) -> None:
    """Runs trials until no slot is open and no process is running a trial."""
    first_failures = FirstFailures()

    def started(number: int) -> None:
        if progress is not None:
            progress.started(stage, number)

    def ended(number: int) -> None:
        if progress is not None:
            progress.ended(stage, number)
        if stage.kind == "trial":
            _log_best(stage, tracked)
            first_failures.see(stage.trials()[number])
        live.update(stage)

    def fill() -> None:
        reconcile(stage)
        told: set[str] = set()
        while stage.has_open_slot() or stage.is_running():
            work(stage, dataset=dataset, started=started, ended=ended)
            if others := set(stage.running()):  # of another command: if they die, this process takes over their slots
                for line in sorted(others - told):
                    LOG.info(f"waiting for {line}")
                told |= others
                time.sleep(_POLL)
                reconcile(stage)

    stage.storage.persist(fill)


def _log_best(stage: Stage, tracked: TrackedRun) -> None:
    """Logs the best value so far, once for each number of ended trials, although several processes may see it."""
    with stage.lock():
        best, step = best_trials(stage.study), len(counted(stage.study))
        is_new = step > stage.study.user_attrs.get("best_logged", 0)
        if is_new and best and best[0].value is not None:
            stage.study.set_user_attr("best_logged", step)
            tracked.log_metrics({"best_value": best[0].value}, step=step)


def _sweep_run(search: Search) -> AbstractContextManager[TrackedRun]:
    """Opens the sweep's own MLflow run, which its first start creates. Raises InputError if it was deleted."""
    store, sweep, study = search.store, search.sweep, search.study
    with search.lock():
        run_id = study.user_attrs.get("sweep_run_id")
        if run_id is None:
            tags = {"workbench.sweep": sweep.name}
            run_id = create_run(store, experiment=sweep.base.experiment, name=sweep.name, kind="sweep", tags=tags)
            study.set_user_attr("sweep_run_id", run_id)
            return open_run(store, run_id)
    remedy = "restore it in the dashboard, or start a new sweep with another --name"
    try:
        is_deleted = store.client.get_run(run_id).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        is_deleted, remedy = True, "start a new sweep with another --name"  # it is gone for good
    if is_deleted:
        raise InputError("--name", sweep.name, f"this sweep's run {run_id} was deleted in MLflow", remedy)
    return reopen_run(store, run_id)
