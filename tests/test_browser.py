"""MLflow's dashboard on a sweep, and the sweep's own page, in headless Chromium."""

import json
import os
import signal
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import numpy as np
import pytest
from matplotlib.image import imread

from experiments import Store
from experiments.results import plots
from sweeps import load_sweep, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
EPOCHS = 3
CLOSE_ASSISTANT = "button[data-component-id='mlflow.assistant.chat_panel.close']"
UNFOLD = "button[data-component-id$='runnamecellrenderer.tsx_46']"  # a sweep's trials
# The steps of the first line of every chart on the page, by its metric.
CURVES = """
const plots = [...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.data && plot.data[0].metricKey)
return Object.fromEntries(plots.map(plot => [plot.data[0].metricKey, [...plot.data[0].x]]))
"""
# The pixels of the page's widest image as a PNG in base64, once it has loaded one.
WIDEST_IMAGE = """
const [image] = [...document.images].sort((one, other) => other.naturalWidth - one.naturalWidth)
if (!image || !image.naturalWidth) return null
const canvas = document.createElement('canvas')
canvas.width = image.naturalWidth
canvas.height = image.naturalHeight
canvas.getContext('2d').drawImage(image, 0, 0)
return canvas.toDataURL('image/png').split(',')[1]
"""


@dataclass(frozen=True)
class Dashboard:
    """`workbench ui` on a store that holds one sweep, and a browser."""

    url: str
    store: Path
    sweep: dict[str, Any]  # what the command would print
    browser: "Chrome"

    def open(self, address: str) -> None:
        self.browser.get("about:blank")  # a change of the fragment alone loads nothing
        self.browser.get(address if "://" in address else self.url + address)

    def until(self, holds: Callable[["Chrome"], Any]) -> Any:
        """Waits until something holds of the page; its value."""
        from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = (StaleElementReferenceException, WebDriverException)
        return WebDriverWait(self.browser, 120, ignored_exceptions=ignored).until(holds)

    def wait_for(self, *texts: str) -> str:
        """Waits until the page shows all of these; all its text."""
        return str(self.until(lambda page: all(text in _text(page) for text in texts) and _text(page)))

    def click(self, selector: str) -> None:
        """Of CSS, or XPath where it starts with a slash."""
        by = "xpath" if selector.startswith("/") else "css selector"
        self.until(lambda page: [element.click() for element in page.find_elements(by, selector)[:1]])


def _text(page: "Chrome") -> str:
    return page.find_element("tag name", "body").text


@pytest.fixture(scope="module")
def browser() -> Iterator["Chrome"]:
    if not (CHROMIUM.exists() and DRIVER.exists()):
        message = "needs Debian's packages chromium and chromium-driver"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra `browser`")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=2400,3000"):
        options.add_argument(f"--{flag}")
    chrome = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def dashboard(
    tmp_path_factory: pytest.TempPathFactory, poll: Callable[..., None], browser: "Chrome"
) -> Iterator[Dashboard]:
    store = tmp_path_factory.mktemp("dashboard") / "store"
    overrides = {"budget.trials": 3, "trainer.max_epochs": EPOCHS, "pruner.kind": "none", "finalists": {}}
    result = run(load_sweep("digits", overrides), store=Store.open(store))
    command = [sys.executable, "-m", "workbench", "ui", "--no-browser", "--store", str(store)]
    with serving(command, "/health", store / "ui.log", poll) as url:
        yield Dashboard(url, store, result.as_dict(), browser)


@contextmanager
def serving(command: list[str], page: str, log: Path, poll: Callable[..., None]) -> Iterator[str]:
    """A server whose command takes `--port`: its URL, once it answers with the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with log.open("w") as output:
        server = subprocess.Popen([*command, "--port", port], stdout=output, stderr=output)

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return bool(urlopen(f"http://127.0.0.1:{port}{page}").status == 200)
        except OSError:
            return False

    try:
        poll(answers, seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:  # also where a test within it failed
        server.send_signal(signal.SIGINT)
        server.wait()


def test_the_experiment_page_unfolds_a_sweep_into_its_trials_with_their_metrics(
    dashboard: Dashboard, workbench: Workbench
) -> None:
    dashboard.open("/#/experiments/1/runs")
    dashboard.click(CLOSE_ASSISTANT)
    before = dashboard.wait_for("digits", "matching runs")
    trials = dashboard.sweep["trials"]
    runs = json.loads(workbench("runs", "--sweep", "digits", "--store", dashboard.store, "--json").stdout)["runs"]
    names = [run["name"] for run in runs if run["kind"] == "trial"]
    assert len(names) == len(trials) == 3
    assert not any(name in before for name in names)
    dashboard.click(UNFOLD)
    dashboard.wait_for(*names)
    dashboard.click("//*[starts-with(text(), 'Show more columns')]")
    dashboard.click("//*[text() = 'val/accuracy']")
    dashboard.wait_for(*(f"{trial['value']:.4f}"[:5] for trial in trials))


def test_the_link_that_sweep_prints_lists_its_runs_best_first_with_what_was_searched(dashboard: Dashboard) -> None:
    dashboard.open(dashboard.sweep["trials_url"].replace("http://127.0.0.1:5000", dashboard.url))
    best_first = sorted((trial["value"] for trial in dashboard.sweep["trials"]), reverse=True)
    values = [f"{value:.4f}"[:5] for value in best_first]
    shown = dashboard.wait_for("val/accuracy", "optimizer.kind", "optimizer.lr", "workbench.outcome", *values)
    assert sorted(values, key=shown.index) == values
    assert "4 matching runs" in shown  # three trials, one finalist


def test_the_link_that_compare_prints_opens_exactly_these_runs(dashboard: Dashboard, workbench: Workbench) -> None:
    chosen = [trial["run_id"] for trial in dashboard.sweep["trials"][:2]]
    compared = json.loads(workbench("compare", *chosen, "--store", dashboard.store, "--json").stdout)
    dashboard.open(compared["dashboard_url"].replace("http://127.0.0.1:5000", dashboard.url))
    shown = dashboard.wait_for("Comparing 2 Runs from 1 Experiment", *chosen)
    assert dashboard.sweep["trials"][2]["run_id"] not in shown
    params = [row["field"] for row in compared["differences"] if row["kind"] == "param" and row["field"] != "seed"]
    assert params
    chart = dashboard.until(lambda page: page.find_elements("css selector", ".js-plotly-plot .parcoords"))[0]
    dashboard.until(lambda _: "optimizer.lr" in chart.text)
    assert all(param in shown for param in params)


def test_a_runs_page_has_description_data_model_and_curves_of_one_point_an_epoch(dashboard: Dashboard) -> None:
    (run_id,) = dashboard.sweep["champion"]["run_ids"]
    dashboard.open(f"/#/experiments/1/runs/{run_id}")
    accuracy = dashboard.sweep["champion"]["test_accuracy"]["mean"]
    dashboard.wait_for(f"test/accuracy {accuracy:.4f}", "digits-train", "Registered models", "v1")
    dashboard.open(f"/#/experiments/1/runs/{run_id}/model-metrics")
    by_epoch = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
    curves = dashboard.until(lambda page: set(by_epoch) <= (drawn := page.execute_script(CURVES)).keys() and drawn)
    assert {name: len(curves[name]) for name in by_epoch} == dict.fromkeys(by_epoch, EPOCHS)


def test_the_confusion_matrix_opens_in_place(dashboard: Dashboard, tmp_path: Path) -> None:
    (run_id,) = dashboard.sweep["champion"]["run_ids"]
    dashboard.open(f"/#/experiments/1/runs/{run_id}/artifacts/plots/confusion_matrix_test.png")
    artifacts = dashboard.store / "artifacts" / run_id / "artifacts"
    with np.load(artifacts / "predictions.npz") as said:
        target, label = said["test_target"], said["test_label"]
    name = Store.open(dashboard.store).client.get_run(run_id).info.run_name
    plots.plot_confusion(target, label, list("0123456789"), f"{name}: test", tmp_path / "drawn.png")
    drawn = imread(tmp_path / "drawn.png")

    def is_shown(page: "Chrome") -> bool:
        shown = page.execute_script(WIDEST_IMAGE)
        return shown is not None and np.array_equal(imread(BytesIO(b64decode(shown))), drawn)

    dashboard.until(is_shown)


def test_the_sweeps_page_shows_its_charts_and_asks_nothing_of_the_outside(dashboard: Dashboard) -> None:
    report = dashboard.store / "artifacts" / dashboard.sweep["sweep_run_id"] / "artifacts" / "report.html"
    dashboard.browser.get_log("browser"), dashboard.browser.get_log("performance")  # of pages before
    dashboard.open(report.as_uri())
    widths = dashboard.browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 2
    assert min(widths) > 300
    assert dashboard.browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in dashboard.browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {address.partition(":")[0] for address in asked} <= {"file", "data", "about"}


def test_optuna_dashboard_opens_the_study_as_it_is(dashboard: Dashboard, poll: Callable[..., None]) -> None:
    pytest.importorskip("optuna_dashboard", reason="needs the extra `browser`")
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), f"sqlite:///{dashboard.store}/optuna.db"]
    with serving(command, "/dashboard/", dashboard.store / "optuna-dashboard.log", poll) as url:
        dashboard.browser.get_log("browser")  # of pages before
        dashboard.open(f"{url}/dashboard/studies/1")
        best = max(trial["value"] for trial in dashboard.sweep["trials"])
        shown = dashboard.wait_for("digits (id=1)", "Hyperparameter Importance", "Best Trial", str(best))
        assert "optimizer.lr" in shown
        dashboard.until(lambda page: len(page.find_elements("css selector", ".js-plotly-plot")) >= 3)
        dashboard.open(f"{url}/dashboard/studies/1/trials")
        dashboard.wait_for("3 Trials", "Intermediate Values", "Complete")
        assert dashboard.browser.get_log("browser") == []
