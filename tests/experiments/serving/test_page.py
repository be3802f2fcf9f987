"""The page of a served model in headless Chromium: one draws, or chooses a picture, and sees the probabilities."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.experiments.serving.servers import Serving, said, serving

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WORD = "a-word-that-only-some-know"


@pytest.fixture
def show(browser: "Chrome") -> Callable[..., None]:
    def open_page(url: str, width: int = 1280, scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get_log("browser")  # forgets what earlier pages said
        browser.get_log("performance")
        browser.get(url)

    return open_page


def text_of(browser: "Chrome", selector: str) -> str:
    return str(browser.find_element("css selector", selector).text)


def asked(browser: "Chrome") -> set[str]:
    """The addresses that were asked for since the page was opened."""
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    return {each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"}


def rows(browser: "Chrome") -> list[tuple[str, float]]:
    """The classes on the page and their probabilities, in percent."""
    found = browser.find_elements("css selector", "#answer tbody tr")
    cells = [[each.text for each in row.find_elements("css selector", "th, td")] for row in found]
    return [(name, float(percent.removesuffix(" %"))) for name, percent, *_ in cells]


def stroke(browser: "Chrome") -> None:
    """Draws a 1 with the pointer: a line down the middle."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("css selector", "#drawing")
    pen = ActionChains(browser).move_to_element_with_offset(canvas, 0, -100).click_and_hold()
    for _ in range(4):
        pen.move_by_offset(0, 50)
    pen.release().perform()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_digit_is_drawn_and_answered(
    browser: "Chrome", show: Callable[..., None], digits: Serving, poll: Callable[..., Any], width: int, scheme: str
) -> None:
    from axe_core_python.selenium import Axe  # of the extra `browser`, as selenium, without which tests are skipped

    show(digits.url, width, scheme)
    poll(lambda: text_of(browser, "#about").startswith(f"first, run {digits.document['run_id'][:8]}: 10 classes"))
    stroke(browser)
    shown = poll(lambda: rows(browser))
    assert sorted(name for name, _ in shown) == list("0123456789")
    assert sum(percent for _, percent in shown) == pytest.approx(100, abs=1)
    assert [percent for _, percent in shown] == sorted((percent for _, percent in shown), reverse=True)
    assert text_of(browser, "#verdict") == f"{shown[0][0]}: {shown[0][1]:.1f} %"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    own = ("/", "/model", "/invocations", "/favicon.ico")
    assert {address for address in asked(browser) if not address.startswith("data:")} <= {digits.url + p for p in own}
    found = Axe().run(browser)
    assert {"color-contrast", "document-title", "label"} <= {each["id"] for each in found["passes"]}
    assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found["violations"]] == []


def test_it_is_drawn_by_keyboard_and_cleared(
    browser: "Chrome", show: Callable[..., None], digits: Serving, poll: Callable[..., Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    show(digits.url)
    canvas = browser.find_element("css selector", "#drawing")
    canvas.send_keys(Keys.ARROW_UP * 10, " ", Keys.ARROW_DOWN * 20, " ")
    shown = poll(lambda: rows(browser))
    browser.find_element("css selector", "#clear").click()
    assert text_of(browser, "#verdict") == "Draw something, or choose a picture."
    stroke(browser)
    again = poll(lambda: browser.find_element("css selector", "#answer").is_displayed() and rows(browser))
    assert again[0][0] == shown[0][0]  # the same line, by pointer


def test_a_picture_is_chosen_and_has_the_label_of_predictions_npz(
    browser: "Chrome",
    show: Callable[..., None],
    digits: Serving,
    images: np.ndarray,
    first_folder: Path,
    tmp_path: Path,
    poll: Callable[..., Any],
) -> None:
    show(digits.url)
    for number, suffix in enumerate(("png", "tiff")):  # a browser cannot draw the second one, but sends it
        path = tmp_path / f"{number}.{suffix}"
        Image.fromarray(images[number]).save(path)
        browser.find_element("css selector", "#file").send_keys(str(path))
        label = f"{said(first_folder)[number]}: "
        poll(lambda label=label: text_of(browser, "#verdict").startswith(label))
    (tmp_path / "no.png").write_text("no picture")
    browser.find_element("css selector", "#file").send_keys(str(tmp_path / "no.png"))
    poll(lambda: text_of(browser, "#verdict").startswith("The picture is not a PNG"))
    assert not browser.find_element("css selector", "#answer").is_displayed()


def test_it_asks_for_the_token_where_one_is_needed(
    browser: "Chrome", show: Callable[..., None], digits_store: Path, poll: Callable[..., Any]
) -> None:
    from selenium.webdriver.common.keys import Keys

    with serving(digits_store, "first", WORKBENCH_TOKEN=WORD) as server:
        show(server.url)
        field = browser.find_element("css selector", "#token")
        poll(field.is_displayed)
        assert "Authorization: Bearer TOKEN" in text_of(browser, "#verdict")
        field.send_keys(WORD, Keys.ENTER)
        poll(lambda: "10 classes" in text_of(browser, "#about"))
        stroke(browser)
        assert len(poll(lambda: rows(browser))) == 10
