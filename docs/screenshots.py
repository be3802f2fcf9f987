"""Takes the pictures of the README from the store that `make demo` left, in headless Chromium: `make screenshots`."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

URL = "http://127.0.0.1:5000"
CLOSE_ASSISTANT = "button[data-component-id='mlflow.assistant.chat_panel.close']"
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("mlruns"))
    store = parser.parse_args().store
    sweep = _workbench("sweep", "digits", "--store", store)  # which is there: this only tells it again
    pair = (sweep["finalists"][0]["run_ids"][0], sweep["finalists"][1]["run_ids"][0])
    champion = sweep["champion"]["run_ids"][0]
    run = f"{URL}/#/experiments/1/runs/{champion}/model-metrics"
    report = store / "artifacts" / sweep["sweep_run_id"] / "artifacts" / "report.html"
    server = subprocess.Popen([sys.executable, "-m", "workbench", "ui", "--no-browser", "--store", store])
    browser = webdriver.Chrome(_options(), Service("/usr/bin/chromedriver"))
    scratch = tempfile.TemporaryDirectory()
    comparison = Path(scratch.name) / "comparison.html"
    _workbench("compare", *pair, "--html", comparison, "--store", store)
    try:
        waiting = WebDriverWait(browser, 120)
        waiting.until(lambda _: _answers())
        browser.get(URL)
        waiting.until(lambda page: page.find_elements(By.CSS_SELECTOR, CLOSE_ASSISTANT))[0].click()

        def take(name: str, address: str, is_drawn: Callable[[webdriver.Chrome], bool]) -> None:
            browser.get("about:blank")  # a change of the fragment alone loads nothing
            browser.get(address)
            waiting.until(is_drawn)
            _save(browser.get_screenshot_as_png(), FOLDER / f"{name}.png")

        def take_in_both_schemes(name: str, page: Path) -> None:
            for scheme, ending in (("light", ""), ("dark", "-dark")):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                take(f"{name}{ending}", page.absolute().as_uri(), lambda page: bool(page.title))

        take("dashboard", sweep["trials_url"], lambda page: "optimizer.kind" in _text(page) and "Step" in _text(page))
        take(
            "run", run, lambda page: len(page.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .scatterlayer path")) > 4
        )
        take_in_both_schemes("compare", comparison)
        take_in_both_schemes("report", report)
    finally:
        scratch.cleanup()
        browser.quit()
        server.send_signal(signal.SIGINT)
        server.wait()


def _save(png: bytes, path: Path) -> None:
    """Writes a picture with 128 colours, which is small."""
    Image.open(BytesIO(png)).convert("RGB").quantize(128).save(path, optimize=True)


def _workbench(*words: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "workbench", *map(str, words), "--json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return document


def _text(page: webdriver.Chrome) -> str:
    return page.find_element(By.TAG_NAME, "body").text


def _options() -> webdriver.ChromeOptions:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1500,900"):
        options.add_argument(f"--{flag}")
    return options


def _answers() -> bool:
    try:
        return bool(urlopen(f"{URL}/health").status == 200)
    except (URLError, ConnectionError):
        return False


if __name__ == "__main__":
    main()
