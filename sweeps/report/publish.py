"""Writes a sweep's result to its own MLflow run: tags, description, table of trials, leaderboard, plots and page."""

import json

from experiments.artifact_names import LEADERBOARD, REPORT_PAGE
from experiments.tracking import dashboard
from experiments.tracking.registry import register_model
from experiments.tracking.tracked_run import TrackedRun
from sweeps.report.leaderboard import description
from sweeps.report.page import page
from sweeps.report.result import SweepResult, registered_name
from sweeps.study.search import Search


def publish(search: Search, tracked: TrackedRun, result: SweepResult) -> None:
    """Writes the result. Registers the model of the champion's first seed: choosing the best seed would reward luck."""
    document = result.as_dict()
    searched = [parameter.path for parameter in search.sweep.space.parameters]
    is_lowest_first = result.direction == "minimize"
    tracked.share_view(
        dashboard.table_of_children(tracked.run_id, result.metric, searched, lowest_first=is_lowest_first)
    )
    if result.champion and result.champion["model"]:
        name = registered_name(search.sweep)
        register_model(search.store, result.champion["run_ids"][0], name=name, alias="champion")
    tracked.set_tags(
        {
            "workbench.best_run_ids": json.dumps([result.best["run_id"]] if result.best else []),
            "workbench.champion_run_ids": json.dumps(result.champion["run_ids"] if result.champion else []),
            "mlflow.note.content": description(document),
        }
    )
    tracked.path(LEADERBOARD).write_text(json.dumps(document, indent=2), encoding="utf-8")
    tracked.path(REPORT_PAGE).write_text(page(document), encoding="utf-8")
