"""Links to the pages of MLflow's dashboard, in its classic view of experiments: by itself it opens pages for GenAI.

Unless the store is on a server, the links need a running `workbench ui`.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from experiments.tracking.store import Store

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
_CLASSIC = {"workflowType": "machine_learning"}


def home(base: str) -> str:
    """Returns the page that lists the experiments of the dashboard at `base`."""
    return _page(base, "experiments")


def experiment_url(store: Store, experiment_id: str) -> str:
    """Returns the page with the table of an experiment's runs."""
    return _page(_base(store), f"experiments/{experiment_id}/runs")


def run_url(store: Store, experiment_id: str, run_id: str) -> str:
    """Returns the page of this run."""
    return _page(_base(store), f"experiments/{experiment_id}/runs/{run_id}")


def compare_url(store: Store, experiment_ids: Sequence[str], run_ids: Sequence[str]) -> str:
    """Returns the page that compares exactly these runs."""
    return _page(_base(store), "compare-runs", {"runs": _listed(run_ids), "experiments": _listed(experiment_ids)})


def view_url(store: Store, experiment_id: str, key: str, *, charts: bool = False) -> str:
    """Returns the page with the view that was saved as `key` (`views.py`), opened as charts or as a table."""
    opened = {"compareRunsMode": "CHART"} if charts else {}
    return _page(_base(store), f"experiments/{experiment_id}/runs", {"viewStateShareKey": key, **opened})


def model_url(store: Store, name: str, version: str) -> str:
    """Returns the page of a version of a registered model."""
    return _page(_base(store), f"models/{quote(name, safe='')}/versions/{version}")


def within(url: str) -> str:
    """Returns a link as text that the dashboard itself shows has it: it holds wherever the dashboard is served."""
    return url[url.index("#") :]


def _page(base: str, path: str, query: Mapping[str, str] = {}) -> str:
    return f"{base}/#/{path}?{urlencode({**query, **_CLASSIC})}"


def _base(store: Store) -> str:
    return store.address if store.is_served else f"http://{HOST}:{DEFAULT_PORT}"


def _listed(ids: Sequence[str]) -> str:
    return json.dumps(list(ids), separators=(",", ":"))
