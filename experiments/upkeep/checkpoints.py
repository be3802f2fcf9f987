"""Checkpoints that nothing needs: those of the trials of a sweep that is done, and what a finished run does not keep.

A trial's checkpoints are needed until its slot is filled: an attempt that was killed is continued from them.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import get_args

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT
from experiments.config import KeepCheckpoints, Weights
from experiments.tracking.runs import children, find_runs
from experiments.tracking.store import Store, server_away
from experiments.training.kept import superfluous
from experiments.upkeep.contents import Contents, RunRow
from experiments.upkeep.item import Item, What
from experiments.upkeep.removal import held_files, remove_from_run
from lightning_modules.log import LOG

_FILLS = {"finished", "pruned", "failed"}  # outcomes of a trial that fills its slot


def checkpoints(store: Store, contents: Contents) -> Iterator[Item]:
    """Yields the checkpoints that nothing needs."""
    now = _now()
    for run, what, names in _all_not_needed(contents):
        for name, (path, size) in held_files(store, run, names).items():
            yield Item(what=what, path=path, bytes=size, remove=partial(remove_from_run, store, run, [name], now))


def drop_trial_checkpoints(store: Store, sweep_run_id: str) -> None:
    """Removes the checkpoints of the trials of a sweep that has its finalists, or of attempts at repeats.

    What cannot be removed is told.
    """
    runs = [*children(store, sweep_run_id, {}), store.client.get_run(sweep_run_id)]
    runs += find_runs(store, "params.`model.weights` != 'null'")
    contents = Contents(runs={run.info.run_id: RunRow.of(run) for run in runs})
    now = _now()
    try:
        for run, what, names in _all_not_needed(contents):
            is_of_this_sweep = run.tags.get("mlflow.parentRunId") == sweep_run_id
            if what == "trial_checkpoint" and is_of_this_sweep and (held := held_files(store, run, names)):
                remove_from_run(store, run, list(held), now)
    except Exception as error:
        if server_away(error) is not None:
            raise
        LOG.warning(f"checkpoints of trials could not be removed ({error}); workbench clean tries again")


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")


def _all_not_needed(contents: Contents) -> Iterator[tuple[RunRow, What, set[str]]]:
    """Yields the runs that have, or had, checkpoints that nothing needs, and the names of these."""
    filled = {_slot(run) for run in contents.runs.values() if run.tags.get("workbench.outcome") in _FILLS}
    for run in contents.runs.values():
        what, names = _not_needed(run, contents, is_filled=_slot(run) in filled)
        if names:
            yield run, what, names


def _not_needed(run: RunRow, contents: Contents, *, is_filled: bool) -> tuple[What, set[str]]:
    keep, weights = _settings(run)
    if run.is_deleted or run.is_busy or not run.kind or keep == "all" or contents.is_named_as_weights(run):
        return "checkpoint", set()
    has_finalists = run.tags.get("mlflow.parentRunId", "") in contents.champions
    was_repeated = is_filled and run.tags.get("workbench.outcome") not in _FILLS
    is_spare = has_finalists and is_filled and (run.kind == "trial" or (run.kind == "finalist" and was_repeated))
    if is_spare or (run.kind == "repeat" and was_repeated):
        return "trial_checkpoint", {LAST_CHECKPOINT, BEST_CHECKPOINT}
    if run.status == "FINISHED":
        return "checkpoint", superfluous(keep, weights, is_finalist=run.kind == "finalist")
    return "checkpoint", set()


def _settings(run: RunRow) -> tuple[KeepCheckpoints, Weights]:
    """Returns `keep_checkpoints` and `weights`. Runs of earlier versions lack the first, and had its default."""
    keep, weights = run.params.get("trainer.keep_checkpoints", "kept"), run.params.get("trainer.weights")
    if keep in get_args(KeepCheckpoints) and weights in get_args(Weights):
        return keep, weights  # type: ignore[return-value]
    return "all", "last"  # it is not known what the run needs


def _slot(run: RunRow) -> tuple[str, ...]:
    """Returns what the attempts at one slot of a sweep share. Runs of earlier versions have no slot: each is alone."""
    parent = run.tags.get("mlflow.parentRunId", "")
    if run.kind == "finalist":
        return parent, "finalist", run.tags.get("workbench.trial", run.run_id), run.tags.get("workbench.seed", "")
    return parent, run.kind, run.tags.get("workbench.slot", run.run_id)
