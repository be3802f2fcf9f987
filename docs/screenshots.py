"""Takes the README's picture of the dashboard from a real store, in headless Chromium: `make screenshots`."""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PORT = 5055
BUTTONS = (
    "button[data-component-id='mlflow.assistant.chat_panel.close']",
    "button[data-component-id$='runnamecellrenderer.tsx_46']",  # unfolds the sweep's trials
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="mlruns")
    parser.add_argument("--sweep", default="digits")
    args = parser.parse_args()
    workbench = [sys.executable, "-m", "workbench"]
    command = [
        *workbench,
        "runs",
        "--json",
        "--store",
        args.store,
        "--filter",
        f"tags.`workbench.sweep` = '{args.sweep}'",
    ]
    runs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["runs"]
    sweep = next(run for run in runs if run["kind"] == "sweep")
    server = subprocess.Popen([*workbench, "ui", "--store", args.store, "--port", str(PORT)])
    browser = webdriver.Chrome(_options(), Service("/usr/bin/chromedriver"))
    try:
        _wait_for_server()
        browser.get(f"http://127.0.0.1:{PORT}/#/experiments/{sweep['experiment_id']}/runs")
        waiting = WebDriverWait(browser, 120)
        for button in BUTTONS:
            waiting.until(lambda page, css=button: page.find_elements(By.CSS_SELECTOR, css))[0].click()
        waiting.until(lambda page: "adam" in page.find_element(By.TAG_NAME, "body").text)  # the trials' names
        time.sleep(3)  # the last columns are drawn as they arrive
        browser.save_screenshot(str(Path(__file__).with_name("dashboard.png")))
    finally:
        browser.quit()
        server.send_signal(signal.SIGINT)
        server.wait()


def _options() -> webdriver.ChromeOptions:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "window-size=1500,900"):
        options.add_argument(f"--{flag}")
    return options


def _wait_for_server() -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{PORT}/health"):
                return
        except (URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
