"""Which runs may be gone on with, as what, and from where."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import Run

from experiments.artifact_names import CONFIG, LAST_CHECKPOINT, TRACE
from experiments.config import ExperimentConfig, flatten, load_config
from experiments.provenance.origins import LOCATIONS
from experiments.tracking.store import Store
from experiments.training.checkpoints import epochs_done
from experiments.training.trace import Line, read_trace
from lightning_modules import InputError


def check_resumable(store: Store, run_id: str, config: ExperimentConfig, start: Sequence[Line]) -> None:
    """Raises InputError where the run has ended well, still runs, is a sweep's, or began with something else.

    `start`: the lines of the trace that come before training, as they are now. Changes nothing.
    """
    run = store.client.get_run(run_id)
    if (kind := run.data.tags.get("workbench.kind", "run of another program")) != "train":
        raise InputError("--resume", run_id, f"is a {kind}", "only runs of `workbench train` resume; a sweep by itself")
    if run.info.status == "FINISHED":
        raise InputError("--resume", run_id, "has finished", "start a new run")
    if run.info.status == "RUNNING":
        owner = run.data.tags.get("workbench.owner", "an unknown process")
        raise InputError("--resume", run_id, f"still runs, in {owner}", "wait for it, or interrupt it first")
    with tempfile.TemporaryDirectory() as scratch:
        left = _left_behind(store, run, Path(scratch))
        if (left / CONFIG).exists():  # else it was killed before anything was recorded
            _check_config(load_config(str(left / CONFIG)), config)
        _check_trace(run_id, read_trace(left / TRACE), start)


def take_over(store: Store, run_id: str, folder: Path, config: ExperimentConfig, start: Sequence[Line]) -> None:
    """Copies trace and checkpoints of a run whose process died into a new run's folder.

    Nothing is copied where the run left no checkpoint on this machine, or began with something else than `start`.
    """
    left = store.files_folder(store.client.get_run(run_id).info)
    if not epochs_done(left):
        return
    try:
        _check_config(load_config(str(left / CONFIG)), config)
        _check_trace(run_id, read_trace(left / TRACE), start)
    except InputError:
        return
    shutil.copyfile(left / TRACE, folder / TRACE)
    checkpoints = Path(LAST_CHECKPOINT).parent
    shutil.copytree(left / checkpoints, folder / checkpoints)


def _left_behind(store: Store, run: Run, scratch: Path) -> Path:
    """The folder of what the run left of its configuration and trace."""
    folder = store.files_folder(run.info)
    if folder.exists() and any(folder.iterdir()):
        return folder
    held = {artifact.path for artifact in store.client.list_artifacts(run.info.run_id)}
    for name in held & {CONFIG, TRACE}:
        store.client.download_artifacts(run.info.run_id, name, str(scratch))
    return scratch


def _check_config(before: ExperimentConfig, config: ExperimentConfig) -> None:
    began, now = ({k: v for k, v in flatten(each.tree()).items() if v != {}} for each in (before, config))
    for name in (name for name in {**began, **now} if name not in LOCATIONS):
        if name not in began:
            raise InputError(name, now[name], "the run began without it", "leave it out")
        if now.get(name) != began[name]:
            remedy = f"give --{name} {'null' if began[name] is None else began[name]}"
            raise InputError(name, now.get(name), f"the run began with {began[name]}", remedy)


def _check_trace(run_id: str, trace: Sequence[Line], start: Sequence[Line]) -> None:
    for before, now in zip(trace, start, strict=False):
        if now != before:
            what = now["stage"].replace("_", " ")
            raise InputError("--resume", run_id, f"the run began with other {what}", "restore them, or start a new run")
    for line in trace[len(start) :]:
        if not all(math.isfinite(float.fromhex(value)) for value in line["metrics"].values()):
            message = f"its loss is no number since epoch {line['epoch']}"
            raise InputError("--resume", run_id, message, "start a new run, with a lower optimizer.lr")
