"""Writes a sweep's result to its own MLflow run: params, tags, description, views, leaderboard, plots and page.

They are there from the sweep's first minute, and are written again while it runs: see `live.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.artifact_names import LEADERBOARD, NEW_LEADERBOARD, NEW_REPORT_PAGE, PLOTS, REPORT_PAGE
from experiments.dashboard.views import finalists_view, trials_view
from experiments.tracking.description import DESCRIPTION
from experiments.tracking.runs import children
from experiments.tracking.tracked_run import TrackedRun
from sweeps.report import plots
from sweeps.report.leaderboard import description
from sweeps.report.page import page
from sweeps.report.registered import register_champion
from sweeps.report.result import SweepResult
from sweeps.report.settings import effort, fixed
from sweeps.study.finalists import CONFIGURATION
from sweeps.study.search import Search

_ASKED = 3  # trials of which it is read what they have logged


def record_settings(search: Search, tracked: TrackedRun) -> None:
    """Logs what the sweep searches as params of its run. As params cannot change, what may change is logged once.

    A sweep of an earlier version, which is continued, does not get the settings that it was begun with.
    """
    with search.lock():  # another command may begin the same sweep
        known = search.store.client.get_run(tracked.run_id).data.params
        tracked.params |= known
        begun = {} if known or search.trials() else effort(search.sweep)
        tracked.log_params(fixed(search.sweep) | {f"begun_with.{name}": text for name, text in begun.items()})


def publish(search: Search, tracked: TrackedRun, result: SweepResult) -> None:
    """Writes the complete result, and registers the champion's model."""
    document = result.as_dict()
    if result.champion and result.champion["model"]:
        register_champion(search.store, search.sweep, document)
    tracked.set_tags(
        {
            "workbench.best_run_ids": json.dumps([result.best["run_id"]] if result.best else []),
            "workbench.champion_run_ids": json.dumps(result.champion["run_ids"] if result.champion else []),
        }
    )
    with show_lock(search):
        show(search, tracked, document)


def show_lock(search: Search) -> Any:
    """Returns the lock to hold while a result is read and shown: of two commands, the one that reads later shows it."""
    return search.storage.lock(f"shown-{search.sweep.name}")


def show(search: Search, tracked: TrackedRun, document: Mapping[str, Any]) -> None:
    """Writes what people see of a result, complete or not: views, description, leaderboard, plots and page."""
    _share_views(search, tracked, document)
    tracked.set_tags({DESCRIPTION: description(document, fixed(search.sweep) | effort(search.sweep))})
    _replace(tracked, NEW_LEADERBOARD, LEADERBOARD, json.dumps(document, indent=2))
    is_complete = document["so_far"] is None
    pictures = plots.draw(search.study, dict(document), tracked.path(PLOTS)) if is_complete else {}  # seconds
    _replace(tracked, NEW_REPORT_PAGE, REPORT_PAGE, page(document, pictures))


def _replace(tracked: TrackedRun, new: str, name: str, text: str) -> None:
    """Writes a file of the run so that who reads it meanwhile reads the old one or the new one."""
    path: Path = tracked.path(new)
    path.write_text(text, encoding="utf-8")
    path.replace(tracked.path(name))


def _share_views(search: Search, tracked: TrackedRun, document: Mapping[str, Any]) -> None:
    client, sweep, run_id, metric = search.store.client, search.sweep, tracked.run_id, document["metric"]
    fields = {parameter.path: parameter.is_number for parameter in sweep.space.parameters}
    asked = [trial["run_id"] for trial in document["trials"] if trial["run_id"]][-_ASKED:]
    logged = {name for each in asked for name in client.get_run(each).data.metrics}
    finalists = [run.data.tags for run in children(search.store, run_id, {"workbench.kind": "finalist"})]
    # Finalists of earlier versions do not say what they are.
    by = CONFIGURATION if all(CONFIGURATION in tags for tags in finalists) else "workbench.trial"
    groups = sorted({tags[by] for tags in finalists})
    is_lowest_first = document["direction"] == "minimize"
    for view in (
        trials_view(sweep.name, run_id, metric, fields, logged),
        finalists_view(sweep.name, run_id, metric, list(fields), by=by, groups=groups, lowest_first=is_lowest_first),
    ):
        tracked.share_view(view.key, view.as_text())
