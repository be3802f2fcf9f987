"""MLflow's dashboard on a sweep, and the sweep's own page, in headless Chromium."""

import json
import re
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
from experiments.dashboard.links import model_url
from experiments.pictures import plots
from experiments.tracking.logged_model import logged_models
from sweeps import load_sweep, run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]

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

    def at(self, url: str) -> str:
        """A link that the workbench printed, to this dashboard, which has a port of its own."""
        assert url.startswith("http://127.0.0.1:5000/#/")
        assert "workflowType=machine_learning" in url
        return url.replace("http://127.0.0.1:5000", self.url)

    def until(self, holds: Callable[["Chrome"], Any]) -> Any:
        """Waits until something holds of the page; its value."""
        from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = (StaleElementReferenceException, WebDriverException)
        return WebDriverWait(self.browser, 120, ignored_exceptions=ignored).until(holds)

    def wait_for(self, *texts: str) -> str:
        """Waits until the page shows all of these; all its text."""
        from selenium.common.exceptions import TimeoutException

        try:
            return str(self.until(lambda page: all(text in _text(page) for text in texts) and _text(page)))
        except TimeoutException:
            shown = _text(self.browser)
            pytest.fail(f"the page lacks {[text for text in texts if text not in shown]}:\n{shown}")

    def click(self, selector: str) -> None:
        """Of CSS, or XPath where it starts with a slash."""
        by = "xpath" if selector.startswith("/") else "css selector"
        self.until(lambda page: [element.click() for element in page.find_elements(by, selector)[:1]])


def _text(page: "Chrome") -> str:
    return page.find_element("tag name", "body").text


@pytest.fixture(scope="module")
def dashboard(
    tmp_path_factory: pytest.TempPathFactory, poll: Callable[..., None], browser: "Chrome"
) -> Iterator[Dashboard]:
    store = tmp_path_factory.mktemp("dashboard") / "store"
    overrides = {"budget.trials": 3, "trainer.max_epochs": EPOCHS, "pruner.kind": "none"}
    overrides |= {"finalists": {"top": 1, "seeds": 2, "baseline": True}}
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
    dashboard.open("/#/experiments/1/runs?workflowType=machine_learning")
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


def test_the_link_that_ui_prints_lists_the_experiments(dashboard: Dashboard) -> None:
    printed = (dashboard.store / "ui.log").read_text()
    (address,) = re.findall(r"http://127\.0\.0\.1:\S+", printed.splitlines()[0])
    dashboard.open(address)
    shown = dashboard.wait_for("Experiments", "Time created", "digits")
    assert "GenAI" in shown  # to which one can change
    assert "Traces" not in shown


def test_the_link_to_the_trials_opens_charts_of_what_was_searched(dashboard: Dashboard) -> None:
    dashboard.open(dashboard.at(dashboard.sweep["trials_url"]))
    trials = dashboard.sweep["trials"]
    numbers = {name for trial in trials for name in trial["params"]} - {"optimizer.kind"}
    # A choice of words is an axis of the parallel coordinates alone.
    titles = ("Parallel Coordinates", "optimizer.kind", "Step", *(f"{name} vs. val/accuracy" for name in numbers))
    section = f"The search of digits\n({2 + len(numbers)})"
    shown = dashboard.wait_for("digits: trials", section, *titles, "3 matching runs")
    assert shown.index(section) < shown.index("\ntrain\n") < shown.index("\nval\n")
    assert "finalist" not in shown
    assert not re.search(r"system/|progress/|throughput/|^value$", shown, re.MULTILINE)
    curves = dashboard.until(lambda page: (drawn := page.execute_script(CURVES)).get("val/accuracy") and drawn)
    assert list(curves["val/accuracy"]) == list(range(1, EPOCHS + 1))


def test_the_link_to_the_finalists_opens_a_row_a_configuration_best_mean_first(dashboard: Dashboard) -> None:
    dashboard.open(dashboard.at(dashboard.sweep["finalists_url"]))
    (finalist,) = dashboard.sweep["finalists"]
    rows = {
        f"Group: trial {finalist['number']}: ": finalist,
        "Group: the recipe's own settings": dashboard.sweep["baseline"],
    }
    means = [f"{row['mean']:.5f}"[:6] for row in rows.values()]
    shown = dashboard.wait_for(
        "digits: finalists", "Group by: workbench.configuration", "4 matching runs", *rows, *means
    )
    best_first = sorted(rows, key=lambda name: -rows[name]["mean"])
    if rows[best_first[0]]["mean"] > rows[best_first[1]]["mean"]:
        assert shown.index(best_first[0]) < shown.index(best_first[1])
    assert not re.search(r"^value$", shown, re.MULTILINE)


def test_the_sweeps_page_says_what_was_found_and_its_links_lead_to_the_views(dashboard: Dashboard) -> None:
    dashboard.open(dashboard.at(dashboard.sweep["dashboard_url"]))
    dashboard.wait_for("Champion: ", "space.optimizer.lr", "0.001 to 0.1, log", "begun_with.budget", "3 trials")
    dashboard.click("//*[text() = 'Show more']")
    for text, page in (("The trials as charts", "The search of digits"), ("The finalists by configuration", "Group: ")):
        links = dashboard.until(lambda page, text=text: page.find_elements("link text", text))
        dashboard.open(links[0].get_attribute("href"))
        dashboard.wait_for(page)
        dashboard.open(dashboard.at(dashboard.sweep["dashboard_url"]))
        dashboard.click("//*[text() = 'Show more']")


def test_models_are_listed_and_registered_with_their_scores_and_how_to_call_them(dashboard: Dashboard) -> None:
    champion = dashboard.sweep["champion"]
    store = Store.open(dashboard.store)
    runs = [store.client.get_run(run_id) for run_id in champion["run_ids"]]
    dashboard.open("/#/experiments/1/models?workflowType=machine_learning")
    dashboard.wait_for(
        "Ready", "digits-test", *(run.info.run_name.replace("'", "’").replace(".", "·")[:20] for run in runs)
    )
    (model,) = logged_models(store, champion["run_ids"][0])
    dashboard.open(f"/#/experiments/1/models/{model.model_id}?workflowType=machine_learning")
    scores = [f"{name} {value:.4f}" for name, value in runs[0].data.metrics.items() if name.startswith("test/")]
    dashboard.wait_for(f'load_model("runs:/{champion["run_ids"][0]}/model")', "digits", "v1", *scores)
    dashboard.open(dashboard.at(model_url(store, "digits", "1")))
    mean = f"{champion['test_accuracy']['mean']:.4f}"
    dashboard.wait_for(
        "Champion: ", 'load_model("models:/digits@champion")', "@ champion", mean, "The run that trained it"
    )
    dashboard.open("/#/models/digits?workflowType=machine_learning")
    dashboard.wait_for("The champion of the sweep digits", "Version 1", "workbench.seed")


def test_the_link_that_compare_prints_opens_exactly_these_runs(dashboard: Dashboard, workbench: Workbench) -> None:
    chosen = [trial["run_id"] for trial in dashboard.sweep["trials"][:2]]
    compared = json.loads(workbench("compare", *chosen, "--store", dashboard.store, "--json").stdout)
    dashboard.open(dashboard.at(compared["dashboard_url"]))
    shown = dashboard.wait_for("Comparing 2 Runs from 1 Experiment", *chosen)
    assert dashboard.sweep["trials"][2]["run_id"] not in shown
    params = [row["field"] for row in compared["differences"] if row["kind"] == "param" and row["field"] != "seed"]
    assert params
    chart = dashboard.until(lambda page: page.find_elements("css selector", ".js-plotly-plot .parcoords"))[0]
    dashboard.until(lambda _: "optimizer.lr" in chart.text)
    assert all(param in shown for param in params)


def test_a_runs_page_has_description_data_model_and_curves_of_one_point_an_epoch(dashboard: Dashboard) -> None:
    run_id = dashboard.sweep["champion"]["run_ids"][0]
    dashboard.open(f"/#/experiments/1/runs/{run_id}")
    accuracy = Store.open(dashboard.store).client.get_run(run_id).data.metrics["test/accuracy"]
    dashboard.wait_for(f"test/accuracy {accuracy:.4f}", "digits-train", "Registered models", "v1")
    dashboard.open(f"/#/experiments/1/runs/{run_id}/model-metrics")
    by_epoch = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
    curves = dashboard.until(lambda page: set(by_epoch) <= (drawn := page.execute_script(CURVES)).keys() and drawn)
    assert {name: len(curves[name]) for name in by_epoch} == dict.fromkeys(by_epoch, EPOCHS)


def test_the_confusion_matrix_opens_in_place(dashboard: Dashboard, tmp_path: Path) -> None:
    run_id = dashboard.sweep["champion"]["run_ids"][0]
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


def test_the_sweeps_page_is_shown_in_mlflows_preview(dashboard: Dashboard) -> None:
    run_id = dashboard.sweep["sweep_run_id"]
    dashboard.open(f"/#/experiments/1/runs/{run_id}/artifacts/report.html?workflowType=machine_learning")
    frames = dashboard.until(lambda page: page.find_elements("css selector", "iframe"))
    dashboard.browser.switch_to.frame(frames[0])
    try:
        text = dashboard.wait_for("Finalists over fresh seeds", "Lines to paste")
        assert "workbench reproduce digits:champion" in text
        assert dashboard.browser.find_elements("css selector", "#coordinates path")
        handles = dashboard.browser.find_elements("css selector", "input[type=range]")  # made by the page's script
        assert len(handles) >= 4
    finally:
        dashboard.browser.switch_to.default_content()


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
