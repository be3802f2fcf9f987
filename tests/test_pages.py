"""The pages in headless Chromium: at every width, light and dark, on paper, by keyboard."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments.comparison.page import page as comparison_page
from experiments.evaluation.page import page as evaluation_page
from sweeps.report.page import page as sweep_page
from tests.comparisons import compared_runs
from tests.evaluations import evaluated_runs
from tests.sweeps.report.documents import swept, with_question

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WIDTHS = (1280, 600, 360)


def score(params: Any) -> float:
    lr, momentum = params["optimizer.lr"], params["optimizer.momentum"]
    return 0.9 + 0.05 * momentum * (1 - momentum) - 0.5 * lr


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sweep of 60 trials, one with a question, one of 1,000, a comparison of two runs, and an evaluation."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "sweep": sweep_page(swept(score, trials=60)),
        "question": sweep_page(with_question(swept(score, trials=60))),
        "large": sweep_page(swept(score, trials=1000)),
        "comparison": comparison_page(compared_runs(), [PIXEL] * 2, "workbench ui"),
        "evaluation": evaluation_page(evaluated_runs(), [PIXEL] * 24, {"shift": [PIXEL] * 5}, "workbench ui"),
    }
    found = {name: folder / f"{name}.html" for name in texts}
    for name, path in found.items():
        path.write_text(texts[name], encoding="utf-8")
    return found


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNiAAAABgADNjd8qAAAAABJRU5ErkJggg=="
)


@pytest.fixture
def show(browser: "Chrome", pages: dict[str, Path]) -> Callable[..., None]:
    def open_page(name: str, width: int = 1280, scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get_log("browser")  # forgets what earlier pages said
        browser.get_log("performance")
        browser.get(pages[name].as_uri())

    return open_page


def asked(browser: "Chrome") -> set[str]:
    """The addresses that were asked for since the page was opened."""
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    return {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["sweep", "question", "comparison", "evaluation"])
def test_it_fits_the_width_asks_for_nothing_and_has_no_fault_that_axe_finds(
    browser: "Chrome", show: Callable[..., None], pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    from axe_core_python.selenium import Axe  # of the extra `browser`, as selenium, without which tests are skipped

    show(name, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    assert {address for address in asked(browser) if not address.startswith("data:")} == {pages[name].as_uri()}
    found = Axe().run(browser)
    assert {"color-contrast", "document-title", "svg-img-alt"} <= {each["id"] for each in found["passes"]}
    assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found["violations"]] == []


def test_the_handles_of_an_axis_filter_charts_and_table_also_by_keyboard(
    browser: "Chrome", show: Callable[..., None]
) -> None:
    from selenium.webdriver.common.keys import Keys

    show("sweep")
    handle = browser.find_element("css selector", "input[aria-label='val/accuracy from']")
    for _ in range(5):
        handle.send_keys(Keys.PAGE_UP)  # a tenth of the way
    assert float(handle.get_attribute("aria-valuetext")) > 0.85
    rows = browser.find_elements("css selector", "#trials tbody tr")
    shown = [row for row in rows if row.is_displayed()]
    assert 0 < len(shown) < len(rows) == 60
    least = float(handle.get_attribute("aria-valuetext"))
    values = [float(row.find_elements("css selector", "td")[1].text) for row in shown]
    assert min(values) >= least - 0.001
    lines = browser.find_elements("css selector", "#coordinates path:not(.out)")
    assert len(lines) == len(shown)
    assert f"{len(shown)} of 60" in browser.find_element("css selector", "#shown").text


def test_a_header_sorts_the_table(browser: "Chrome", show: Callable[..., None]) -> None:
    show("sweep")
    browser.find_element("xpath", "//table[@id='trials']//button[.='optimizer.lr']").click()
    cells = browser.find_elements("css selector", "#trials tbody tr td:nth-child(5)")
    values = [float(cell.text) for cell in cells]
    assert values == sorted(values)
    header = browser.find_element("css selector", "#trials th[aria-sort]")
    assert (header.text.strip(), header.get_attribute("aria-sort")) == ("optimizer.lr", "ascending")


def test_without_scripts_everything_can_be_read(browser: "Chrome", show: Callable[..., None]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show("sweep")
        text = browser.find_element("tag name", "body").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "The search beat the recipe's own settings" in text
    assert "workbench reproduce simulated:champion" in text


@pytest.mark.parametrize("name", ["sweep", "question", "comparison", "evaluation"])
def test_it_prints_all_of_it(browser: "Chrome", show: Callable[..., None], name: str) -> None:
    show(name)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    pages = base64.b64decode(printed).count(b"/Type /Page\n") or base64.b64decode(printed).count(b"/Type /Page")
    assert 2 <= pages <= 12


def test_a_large_sweep_answers_a_drag_at_once(browser: "Chrome", show: Callable[..., None]) -> None:
    """That every row follows; it takes some 10 ms."""
    show("large")
    left = browser.execute_script(
        """
        const handle = document.querySelector("input[aria-label='optimizer.lr to']")
        handle.value = 500
        handle.dispatchEvent(new Event("input"))
        return [...document.querySelectorAll("#trials tbody tr")].filter(row => !row.hidden).length
        """
    )
    assert 300 < left < 700
