"""Which runs can be resumed, and from which checkpoint."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mlflow.entities import Run

from experiments.artifact_names import CODE_BUNDLE, CONFIG, LAST_CHECKPOINT, PROVENANCE, TRACE
from experiments.code.kept import Code
from experiments.code.portable import located
from experiments.config import MAY_CHANGE, ExperimentConfig, flatten, with_located_files
from experiments.process.redaction import urls_without_credentials
from experiments.provenance.record import read_provenance
from experiments.recipe import build, read_recipe
from experiments.tracking.ownership import owner_of
from experiments.tracking.store import Store
from experiments.training.checkpoints import epochs_done
from experiments.training.trace import Line, read_trace
from lightning_modules import InputError
from lightning_modules.plug import search_folders


def check_resumable(
    store: Store,
    run_id: str,
    config: ExperimentConfig,
    start: Sequence[Line],
    code: Code,
    *,
    code_may_change: bool,
) -> Code:
    """Raises InputError if the run has finished, is running, belongs to a sweep, or had other inputs. Changes nothing.

    `start`: the trace's lines before training, computed now. Returns the code to go on with.
    """
    run = store.client.get_run(run_id)
    _check_kind(run)
    if run.info.status == "FINISHED":
        raise InputError("--resume", run_id, "has finished", "start a new run")
    if run.info.status == "RUNNING":
        owner = owner_of(run)
        message = f"is still running, in {owner.shown if owner else 'an unknown process'}"
        raise InputError("--resume", run_id, message, "wait until it ends, or interrupt it")
    with tempfile.TemporaryDirectory() as scratch:
        files = _find_files(store, run, Path(scratch))
        if (files / CONFIG).exists():  # it is missing if the run was killed before anything was recorded
            _check_config(files / CONFIG, config)
        _check_trace(run_id, read_trace(files / TRACE), start)
        if not (files / PROVENANCE).exists():
            return code
        kept = read_provenance(files / PROVENANCE).get("code")
        began = datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M")
        return code.continuing(store.folder, kept, files, "run", began, may_change=code_may_change)


def recorded_config(store: Store, run_id: str) -> ExperimentConfig:
    """Returns the configuration that a run of `workbench train` has recorded, to resume it.

    Its own parts are looked for in the folders that they were imported from. Raises InputError if nothing is recorded.
    """
    run = store.client.get_run(run_id)
    _check_kind(run)
    with tempfile.TemporaryDirectory() as scratch:
        files = _find_files(store, run, Path(scratch))
        if not (files / CONFIG).exists():
            raise InputError("--resume", run_id, "was stopped before its config was recorded", "give its RECIPE, too")
        kept = read_provenance(files / PROVENANCE).get("code") if (files / PROVENANCE).exists() else None
        search_folders(located(folder["path"]) for folder in (kept or {}).get("own_folders", ()))
        return build(ExperimentConfig, with_located_files(read_recipe(files / CONFIG), [], is_recorded=True))


def _check_kind(run: Run) -> None:
    if (kind := run.data.tags.get("workbench.kind", "run of another program")) != "train":
        remedy = "only runs of `workbench train` can be resumed; to resume a sweep or repeats, run its command again"
        raise InputError("--resume", run.info.run_id, f"is a {kind}", remedy)


def take_over(
    store: Store, run_id: str, folder: Path, config: ExperimentConfig, start: Sequence[Line], code: Code
) -> None:
    """Copies the trace and the checkpoints of a run whose process died into a new run's folder.

    Copies nothing if this machine has no checkpoint of the run, or if its config, its code or `start` was different.
    """
    files = store.files_folder(store.client.get_run(run_id).info)
    if not epochs_done(files):
        return
    try:
        _check_config(files / CONFIG, config)
        _check_trace(run_id, read_trace(files / TRACE), start)
        kept = read_provenance(files / PROVENANCE).get("code")
        if kept is not None:
            code.continuing(store.folder, kept, files, "run", "", may_change=False)
    except InputError:
        return
    shutil.copyfile(files / TRACE, folder / TRACE)
    checkpoints = Path(LAST_CHECKPOINT).parent
    new = folder / f"{checkpoints}.new"  # renamed only when it is complete: the disk may be full
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(files / checkpoints, new)
    new.rename(folder / checkpoints)


def _find_files(store: Store, run: Run, scratch: Path) -> Path:
    """Returns the folder with the run's configuration and trace, downloaded to `scratch` if they are not local."""
    folder = store.files_folder(run.info)
    if folder.exists() and any(folder.iterdir()):
        return folder
    stored = {artifact.path for artifact in store.client.list_artifacts(run.info.run_id)}
    for name in stored & {CODE_BUNDLE, CONFIG, PROVENANCE, TRACE}:
        store.client.download_artifacts(run.info.run_id, name, str(scratch))
    return scratch


def _check_config(recorded: Path, config: ExperimentConfig) -> None:
    """Compares a config.yaml, which may lack fields that are newer than it. Imports none of the parts that it names."""
    before = flatten(with_located_files(read_recipe(recorded), [], is_recorded=True))
    trees = flatten(ExperimentConfig().tree()) | before, flatten(urls_without_credentials(config.tree()))
    started, now = ({name: value for name, value in tree.items() if value != {}} for tree in trees)
    for name in (name for name in {**started, **now} if name not in MAY_CHANGE):
        if name not in started:
            raise InputError(name, now[name], "the run started without it", "leave it out")
        if now.get(name) != started[name]:
            remedy = f"give --{name} {'null' if started[name] is None else started[name]}"
            raise InputError(name, now.get(name), f"the run started with {started[name]}", remedy)


def _check_trace(run_id: str, trace: Sequence[Line], start: Sequence[Line]) -> None:
    for before, now in zip(trace, start, strict=False):
        if now != before:
            what = now["stage"].replace("_", " ")
            message, remedy = f"the {what} changed since the run started", f"restore the {what}, or start a new run"
            raise InputError("--resume", run_id, message, remedy)
    for line in trace[len(start) :]:
        if not all(math.isfinite(float.fromhex(value)) for value in line["metrics"].values()):
            message = f"its loss has been NaN or infinite since epoch {line['epoch']}"
            raise InputError("--resume", run_id, message, "start a new run with a lower optimizer.lr")
