"""Links to MLflow's dashboard: every one opens the classic view of experiments."""

from pathlib import Path
from urllib.parse import parse_qs

import pytest

from experiments.dashboard import links
from experiments.tracking.store import Store


def parts(url: str) -> tuple[str, str, dict[str, str]]:
    """The address of the dashboard, the page in it, and what the page is asked."""
    base, _, rest = url.partition("/#/")
    page, _, query = rest.partition("?")
    return base, page, {name: value for name, (value,) in parse_qs(query).items()}


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store.at(tmp_path)


CLASSIC = {"workflowType": "machine_learning"}


def test_each_link_names_its_page_and_the_classic_view(local: Store) -> None:
    here = "http://127.0.0.1:5000"
    assert parts(links.home("http://x:1")) == ("http://x:1", "experiments", CLASSIC)
    assert parts(links.run_url(local, "7", "abc")) == (here, "experiments/7/runs/abc", CLASSIC)
    assert parts(links.model_url(local, "two words", "3")) == (here, "models/two%20words/versions/3", CLASSIC)
    compared = {"runs": '["a","b"]', "experiments": '["1"]'}
    assert parts(links.compare_url(local, ["1"], ["a", "b"])) == (here, "compare-runs", compared | CLASSIC)
    view = {"viewStateShareKey": "key"} | CLASSIC
    assert parts(links.view_url(local, "7", "key")) == (here, "experiments/7/runs", view)
    charts = {"compareRunsMode": "CHART"} | view
    assert parts(links.view_url(local, "7", "key", charts=True)) == (here, "experiments/7/runs", charts)


def test_a_server_s_own_address_is_used_without_its_password(tmp_path: Path) -> None:
    served = Store(tmp_path, "https://me:secret@mlflow.example/base/")
    base, page, _ = parts(links.run_url(served, "7", "abc"))
    assert (base, page) == ("https://mlflow.example/base", "experiments/7/runs/abc")
    assert links.within(links.run_url(served, "7", "abc")) == "#/experiments/7/runs/abc?workflowType=machine_learning"
