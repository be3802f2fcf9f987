"""What differs between runs: params and metrics side by side."""

from collections.abc import Sequence
from typing import Any

from experiments import dashboard
from experiments.runs import RunSummary
from experiments.store import Store


def compare(store: Store, runs: Sequence[RunSummary]) -> dict[str, Any]:
    """The runs, the params on which they differ, every metric that any of them has, and MLflow's compare page."""
    params = sorted({name for run in runs for name in run.params})
    metrics = sorted({name for run in runs for name in run.metrics})
    differences = [
        {"field": name, "kind": "param", "values": {run.run_id: run.params.get(name) for run in runs}}
        for name in params
        if len({run.params.get(name) for run in runs}) > 1
    ]
    return {
        "runs": [run.as_dict() for run in runs],
        "differences": differences,
        "metrics": [{"name": name, "values": {run.run_id: run.metrics.get(name) for run in runs}} for name in metrics],
        "tests": [],  # of differences between predictions: none is made yet
        "dashboard_url": dashboard.compare_url(
            store, sorted({run.experiment_id for run in runs}), [run.run_id for run in runs]
        ),
    }
