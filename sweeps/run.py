"""Runs a sweep to its end, or resumes it: search, finalists, champion, report."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import yaml

from experiments.artifact_names import CONFIG
from experiments.process.interrupts import interruptible
from experiments.process.setup import prepare_process
from experiments.provenance.gather import code_for, keep_bundle
from experiments.tasks.prepare import prepare
from experiments.tracking.spool import deliver
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.trace import Digests
from experiments.upkeep.checkpoints import drop_trial_checkpoints
from lightning_modules import InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.log import LOG
from sweeps.answering import answer_of, prospect
from sweeps.config import Sweep
from sweeps.engines.start import EngineName, Work, fill, start_engine, warm_up_for
from sweeps.progress import SweepProgress, showing
from sweeps.report.live import Live
from sweeps.report.publish import publish
from sweeps.report.result import SweepResult, gather
from sweeps.strategy.budget import counts
from sweeps.strategy.space import Point
from sweeps.study.failures import FirstFailures
from sweeps.study.finalists import Finals, champion_of, read_test
from sweeps.study.own_run import own_run
from sweeps.study.search import Search
from sweeps.study.stage import Stage, best_first

_STRUCTURE = ("model.", "data.", "optimizer.kind", "optimizer.args.", "optimizer.schedule.kind", "trainer.precision")
_REHEARSED = 16  # combinations of these fields that are tried before the first trial


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
        warm_up_for(sweep)
    store = store or Store.open()
    dataset = load_dataset(sweep.base.data) if sweep.base.data.module is None else None
    data_sha256 = _rehearse(sweep, dataset, store)
    with store.telling_failures():
        code = code_for(sweep.base, store)
    with (
        showing(sweep, progress) as shown,
        interruptible(),
        store.telling_failures(),
        start_engine(engine, sweep, store, dataset, workers, address) as (work, at_a_time),
        Search.open(store, sweep, data_sha256, code) as opened,
        own_run(search := opened.going_on(code_may_change=code_may_change), "sweep") as tracked,
    ):
        keep_bundle(tracked, search.code)
        tree = search.sweep.config_tree()
        tracked.path(CONFIG).write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        live = Live(search, tracked)
        live.begin()
        if sweep.has_question and search.has_open_slot():
            LOG.info(prospect(sweep, store))
        with _followed(search, shown, at_a_time):
            _fill(search, tracked, dataset, work, shown, live)
        with Finals.open(store, sweep, data_sha256, search.code) as finals:
            with _followed(finals, shown, at_a_time):
                _fill(finals, tracked, dataset, work, shown, live)
            return search.storage.persist(partial(_conclude, search, finals, tracked, dataset))


def _rehearse(sweep: Sweep, dataset: ImageDataset | None, store: Store) -> str:
    """Rehearses every combination of the fields that decide what a network is, or the first ones if there are many.

    Returns the SHA-256 of the data, at the first of them. All must have the same val split.

    Raises InputError now instead of in every trial. The other combinations are rehearsed when a trial has them first.
    """
    digests: list[Digests] = []
    for arm in sweep.arms:
        seen: list[Point] = []
        for corner in arm.space.corners():
            structure = {path: value for path, value in corner.items() if path.startswith(_STRUCTURE)}
            if structure in seen or len(seen) == max(1, _REHEARSED // len(sweep.arms)):
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
        answered = answer_of(search, finalists, dataset)
        result = gather(search, tracked, finalists, champion, question=answered)
        publish(search, tracked, result)
        drop_trial_checkpoints(search.store, tracked.run_id)
        return result


def _followed(stage: Stage, progress: SweepProgress | None, at_a_time: int) -> AbstractContextManager[None]:
    return nullcontext() if progress is None else progress.following(stage, at_a_time)


def _fill(
    stage: Stage,
    tracked: TrackedRun,
    dataset: ImageDataset | None,
    work: Work,
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

    fill(stage, work, dataset, started=started, ended=ended)


def _log_best(stage: Stage, tracked: TrackedRun) -> None:
    """Logs the best value so far, once for each number of ended trials, although several processes may see it."""
    with stage.lock():
        trials = stage.trials()
        best, step = best_first(trials, stage.sweep.config.objective.sign), sum(map(counts, trials))
        is_new = step > stage.study.user_attrs.get("best_logged", 0)
        if is_new and best and best[0].value is not None:
            stage.study.set_user_attr("best_logged", step)
            tracked.log_metrics({"best_value": best[0].value}, step=step)
