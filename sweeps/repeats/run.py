"""Runs a configuration with several seeds or folds, or goes on with that, and publishes the mean."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

from experiments.artifact_names import CONFIG, CURVES_PLOT, REPEATS
from experiments.config import ExperimentConfig, flatten
from experiments.pictures.plots import plot_band
from experiments.process.interrupts import interruptible
from experiments.process.setup import prepare_process
from experiments.provenance.gather import code_for, keep_bundle
from experiments.tasks.prepare import cores, prepare
from experiments.tracking.description import DESCRIPTION, users_tags, with_notes
from experiments.tracking.spool import deliver
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.devices import launched
from experiments.upkeep.checkpoints import drop_trial_checkpoints
from lightning_modules import InputError
from lightning_modules.datamodule import load_dataset
from lightning_modules.datasets import ImageDataset
from lightning_modules.log import LOG
from sweeps.config import Sweep
from sweeps.engines.start import fill, start_engine, warm_up_for
from sweeps.progress import showing
from sweeps.repeats.plan import FOLD, count_of, is_cross_validation, plan_repeats, seed_of
from sweeps.repeats.result import RepeatsResult, description, gather, sentences
from sweeps.repeats.stage import Repeats
from sweeps.report.rows import curve
from sweeps.study.own_run import own_run


def repeat(
    config: ExperimentConfig,
    *,
    seeds: int | None = None,
    folds: int | None = None,
    name: str | None = None,
    store: Store | None = None,
    workers: int | None = 1,
    code_may_change: bool = False,
    tags: Mapping[str, str] = {},
    notes: str | None = None,
    progress: bool | None = None,
) -> RepeatsResult:
    """Trains `config` with the seeds `seed`, `seed + 1`, …, or with each of its folds as the validation images.

    Each run reads test once, at its end. `name`: the name of the repeats (default: the experiment's). `workers` runs
    train at a time, each on one thread unless the config says otherwise; one worker runs in this process, None means
    one per core. Calling it again with the same name continues: with more `seeds`, only those that are missing run;
    code that they load must be unchanged, unless `code_may_change`. `tags` are the user's, for all runs; `notes` are
    for their parent. `progress`: whether to show it; None: only on a terminal or in a notebook.

    Raises InputError before anything is written. Raises SweepStoppedError or StoreError if it cannot continue; what
    has ended stays in the store.
    """
    prepare_process()
    repeats = plan_repeats(config, name=name or config.experiment, seeds=seeds, folds=folds)
    own_tags = users_tags(tags, notes)
    if (place := launched()) is not None:
        message = f"{place.launcher} has started several processes, and repeats start their own"
        raise InputError("--folds" if folds else "--seeds", count_of(repeats), message, "use --workers instead")
    workers = min(workers or cores(), count_of(repeats))
    if workers > 1:
        warm_up_for(repeats)
    store = store or Store.open()
    dataset = load_dataset(config.data) if config.data.module is None else None
    data_sha256 = _rehearse(repeats, dataset, store)
    with store.telling_failures():
        code = code_for(repeats.base, store)
    with (
        showing(repeats, progress) as shown,
        interruptible(),
        store.telling_failures(),
        start_engine("local", repeats, store, dataset, workers, None) as (work, at_a_time),
        Repeats.open(store, repeats, data_sha256, code) as opened,
        own_run(stage := opened.going_on(code_may_change=code_may_change), "repeats") as tracked,
    ):
        keep_bundle(tracked, stage.code)
        tracked.path(CONFIG).write_text(repeats.base.to_yaml(), encoding="utf-8")
        stage.give_tags(users_tags(tags, None))
        tracked.set_tags(own_tags)
        _record_settings(repeats, tracked)
        _describe(stage, tracked)

        def started(number: int) -> None:
            if shown is not None:
                shown.started(stage, number)

        def ended(number: int) -> None:
            if shown is not None:
                shown.ended(stage, number)
            _describe(stage, tracked)

        with nullcontext() if shown is None else shown.following(stage, at_a_time):
            fill(stage, work, dataset, started=started, ended=ended)
        return stage.storage.persist(partial(_conclude, stage, tracked))


def _rehearse(repeats: Sweep, dataset: ImageDataset | None, store: Store) -> str:
    """Tries the first run's configuration; returns the SHA-256 of the data. Raises InputError now, not in every run."""
    params: dict[str, int] = {}
    if is_cross_validation(repeats):
        params = {FOLD: 0}
        if dataset is not None and "val" in dataset.parts:
            message, remedy = "the data set has a val split of its own", "repeat it over seeds: --seeds"
            raise InputError("--folds", count_of(repeats), message, remedy)
    try:
        return prepare(repeats.trial_config(params, seed_of(repeats, 0)), dataset, store, reads_test=True).digests.data
    except InputError as error:
        if error.field == "data.folds":  # which the user has not given
            raise InputError("--folds", error.value, error.message, error.remedy) from error
        raise


def _record_settings(repeats: Sweep, tracked: TrackedRun) -> None:
    """Logs the params that all runs share, and what they are repeated over."""
    is_over_folds = is_cross_validation(repeats)
    varies = FOLD if is_over_folds else "seed"
    shared = {name: value for name, value in flatten(repeats.base.as_recorded()).items() if name != varies}
    tracked.params |= tracked.store.client.get_run(tracked.run_id).data.params  # another command may have begun them
    tracked.log_params({"repeats": "folds" if is_over_folds else "seeds", **shared})


def _describe(stage: Repeats, tracked: TrackedRun) -> None:
    """Shows in MLflow how far the runs are; that this fails does not end them."""
    try:
        document = gather(stage, tracked).as_dict()
        tracked.set_tags({DESCRIPTION: with_notes(description(document), tracked.tags)})
    except Exception as error:
        LOG.warning(f"the description of {stage.sweep.name} in MLflow may be out of date until its end: {error}")


def _conclude(stage: Repeats, tracked: TrackedRun) -> RepeatsResult:
    """Publishes the result: metrics, description, picture and `repeats.json`."""
    with stage.storage.lock(f"repeats-{stage.study.study_name}"):
        stage.store.persist(partial(deliver, stage.store))
        result = gather(stage, tracked)
        document = result.as_dict()
        tracked.path(REPEATS).write_text(json.dumps(document, indent=2), encoding="utf-8")
        if result.curve:
            trials = stage.of_slots(stage.trials())
            runs = [[(int(epoch), value) for epoch, value in curve(trial)] for trial in trials if trial is not None]
            plot_band(result.metric, runs, result.curve, sentences(document)[0], tracked.path(CURVES_PLOT))
        tracked.set_tags({DESCRIPTION: with_notes(description(document), tracked.tags)})
        # More seeds may follow, and a value that was logged cannot be replaced: the step is the number of runs.
        tracked.log_metrics(_means(result), step=len(result.runs))
        drop_trial_checkpoints(stage.store, tracked.run_id)
        return result


def _means(result: RepeatsResult) -> dict[str, float]:
    """Returns the means and the ends of their intervals, as metrics of the run of the repeats."""
    found: dict[str, float] = {}
    for metric, mean, ci95 in [
        (result.metric, result.mean, result.ci95),
        *((name, score["mean"], score["ci95"]) for name, score in result.test.items()),
    ]:
        if mean is not None:
            found[f"{metric}/mean"] = mean
        if ci95 is not None:
            found |= {f"{metric}/low": ci95[0], f"{metric}/high": ci95[1]}
    return found
