"""The views that a sweep saves in MLflow's dashboard: its trials as charts, its finalists as a table of means.

A view is MLflow's own (ExperimentPageUIState.tsx and runs-charts.types.ts of MLflow 3.17): a tag of the experiment.
The dashboard lists views under "Saved views". `links.view_url` opens one.
"""

import base64
import json
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UNSHOWN = ("value", "progress/", "throughput/", "system/")  # prefixes of metrics without a chart
_ALWAYS = ("value", "progress/optimizer_steps", "throughput/images_per_second", "throughput/samples_per_second")
_SCATTERS = 24  # charts of one field each
_FIELDS = 40  # in a table, and in parallel coordinates: more cannot be read, and the tag of an experiment is limited
_SECTION = "search"
_NAME = "attributes.`Run Name`"
_WIDE_NAMES = {"columnOrder": [_NAME], "columnWidths": {_NAME: 480}}


@dataclass(frozen=True, kw_only=True)
class View:
    """A view, and the key that a link to it has."""

    key: str
    name: str  # in the list of saved views
    state: Mapping[str, Any]

    def as_text(self) -> str:
        """Returns the text of its tag. The state in it is compressed, as MLflow does: a tag has limited room."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state).encode(), 9)).decode()
        return json.dumps({"name": self.name, "createdAt": int(time.time() * 1000), "state": f"deflate;{packed}"})


def read_view(text: str) -> dict[str, Any]:
    """Returns the state of a view from the text of its tag."""
    packed = json.loads(text)["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def trials_view(sweep: str, run_id: str, metric: str, fields: Mapping[str, bool], logged: Collection[str] = ()) -> View:
    """Returns the view of a sweep's trials: charts of the searched fields, newest trial first in the table.

    `fields`: the searched fields, and whether a field has numbers: then it has a chart of its own.
    `logged`: names of metrics that trials have logged. Metrics that say nothing about the search have no chart.
    """
    chart = {"metricSectionId": _SECTION, "isGenerated": False, "deleted": False}
    shown = list(fields)[:_FIELDS]
    parallel: dict[str, Any] = {
        "type": "PARALLEL",
        "selectedParams": shown,
        "selectedMetrics": [metric],
        "showAllRuns": True,
    }
    line: dict[str, Any] = {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric], "xAxisKey": "step"}
    line |= {"xAxisScaleType": "linear", "scaleType": "linear", "lineSmoothness": 0, "runsCountToCompare": 100}
    cards = [
        chart | parallel | {"uuid": "fields"},
        chart | line | {"uuid": "curves"},
    ]
    for field in [field for field, is_number in fields.items() if is_number][:_SCATTERS]:
        axes = {"xaxis": {"key": field, "type": "PARAM"}, "yaxis": {"key": metric, "type": "METRIC"}}
        scatter = {"type": "SCATTER", **axes, "runsCountToCompare": 100}
        cards.append(chart | scatter | {"uuid": f"field {field}"})
    unshown = {name for name in logged if name.startswith(_UNSHOWN)} | set(_ALWAYS)
    for name in sorted(unshown - {metric}):  # else MLflow makes a chart of each
        generated = {"type": "BAR", "metricKey": name, "isGenerated": True, "deleted": True}
        cards.append(chart | generated | {"uuid": f"metric {name}"})
    section = {"uuid": _SECTION, "name": f"The search of {sweep}", "display": True, "isReordered": True}
    charts = {
        "compareRunCharts": cards,
        "compareRunSections": [{**section, "deleted": False, "isGenerated": False}],
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
    }
    columns = [*(f"params.`{field}`" for field in shown), f"metrics.`{metric}`", "tags.`workbench.outcome`"]
    # By what all have in common, and so newest first. By the time itself, MLflow would fold the trials into one row.
    order = {"orderByKey": "tags.`mlflow.user`", "orderByAsc": False}
    return View(key=run_id, name=f"{sweep}: trials", state=_state(run_id, "trial", columns) | order | charts)


def finalists_view(
    sweep: str, run_id: str, metric: str, fields: Sequence[str], *, by: str, groups: Sequence[str], lowest_first: bool
) -> View:
    """Returns the view of a sweep's finalists: one row a configuration, with means over its seeds, best mean first.

    `by`: the tag that the runs of a configuration share, and `groups` its values so far. A row opens to show its
    runs. Attempts that died or were interrupted are left out.
    """
    columns = [f"metrics.`{metric}`", "metrics.`test/accuracy`", *(f"params.`{field}`" for field in fields[:_FIELDS])]
    grouping = {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": by}]},
        "groupsExpanded": {f"tag.{by}.{group}": False for group in groups},
    }
    order = {"orderByKey": f"metrics.`{metric}`", "orderByAsc": lowest_first}
    state = _state(run_id, "finalist", columns) | order | grouping | _WIDE_NAMES
    state["searchFilter"] += "".join(f" and tags.`workbench.outcome` != '{each}'" for each in ("died", "interrupted"))
    return View(key=finalists_key(run_id), name=f"{sweep}: finalists", state=state)


def finalists_key(run_id: str) -> str:
    """Returns the key of the view of a sweep's finalists. The key of the view of its trials is the id of its run."""
    return f"{run_id}-finalists"


def _state(run_id: str, kind: str, columns: Sequence[str]) -> dict[str, Any]:
    """Returns what a view of one kind of a sweep's runs has in any case."""
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`workbench.kind` = '{kind}'",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "runsHiddenMode": "SHOW_ALL",
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
