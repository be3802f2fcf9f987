"""Fixtures for all tests: the command line as a process, and two runs on digits that many tests only read."""

import atexit
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import psutil
import pytest

from experiments import Store, load_config, run
from experiments.code.loading import watch
from experiments.process import redaction
from experiments.process.setup import prepare_process
from experiments.tracking import store as store_module
from tests.warm_python import WarmPython
from workbench import main

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from selenium.webdriver import Chrome

# The folder for `real_data`. The second variable passes it to pytest-xdist's workers, which inherit this environment.
_REAL_DATA = os.environ.get("WORKBENCH_DATA", os.environ.get("WORKBENCH_TESTS_REAL_DATA"))
if _REAL_DATA is not None:
    os.environ["WORKBENCH_TESTS_REAL_DATA"] = _REAL_DATA

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

prepare_process()

# Tests must never touch the user's own store, data folder or trust.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="workbench-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)
for _variable in ("MLFLOW_TRACKING_URI", "WORKBENCH_DATA", "WORKBENCH_MIRRORS"):
    os.environ.pop(_variable, None)

# The files with the longest tests run first, so that no core is idle at the end.
_LONGEST = ("test_reproduce", "test_workers", "test_resume", "test_ray", "test_storage", "test_browser")

DIGITS = ("train", "digits", "--name", "first", "--trainer.max_epochs", "3", "--trainer.threads", "1", "--json")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


def _start(*args: str | Path) -> WarmPython:
    return WarmPython(["-m", "workbench", *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _copy_database(args: Sequence[str | Path]) -> None:
    """Makes the database in the store that a command is going to use, from the template."""
    if "--store" in args:
        Store.open(args[args.index("--store") + 1]).ensure_database()


def _finish(process: "WarmPython | subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(autouse=True)
def passwords_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a process forget the passwords that a test told it: a file that has one is in no run's record."""
    monkeypatch.setattr(redaction, "_told", {})


@pytest.fixture(scope="session", autouse=True)
def make_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """Gives each new store a copy of one fresh MLflow database, because MLflow takes a second or more to make one.

    Returns the original function. `twin_store` and the processes of test_store.py also make real databases.
    """
    template = tmp_path_factory.mktemp("template")
    make = store_module._make_mlflow_database

    def copy(folder: Path) -> None:
        if not (template / "mlflow.db").exists():
            make(template)
            (template / "mlflow.db").open("ab").close()  # what a process has written is no input of its runs
        new = folder / "mlflow.db.new"
        shutil.copyfile(template / "mlflow.db", new)
        with closing(sqlite3.connect(new)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", (str(folder / "artifacts" / "0"),))
        new.rename(folder / "mlflow.db")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "_make_mlflow_database", copy)
        yield make


@pytest.fixture
def start_workbench() -> Iterator[Callable[..., WarmPython]]:
    """Starts `python -m workbench ARGS…`; kills it and its children at the end of the test."""
    started: list[WarmPython] = []

    def start(*args: str | Path) -> WarmPython:
        _copy_database(args)
        started.append(_start(*args))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def workbench() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs `python -m workbench ARGS…` to its end; returns returncode, stdout and stderr."""

    def run_to_its_end(*args: str | Path) -> "subprocess.CompletedProcess[str]":
        _copy_database(args)
        return _finish(_start(*args))

    return run_to_its_end


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Runs a command on a terminal of 80 columns, and returns the lines that it prints to standard output."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no bold letters

    def run(*words: str | Path, code: int = 0) -> list[str]:
        capsys.readouterr()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert main([str(word) for word in words]) == code
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def start_long_training(
    start_workbench: Callable[..., WarmPython],
) -> Callable[[Path], WarmPython]:
    """Starts a run of very many epochs in a store, and returns once two epochs are over.

    By then the first epoch's checkpoint exists: it is written just after the first epoch's line is printed.
    """

    def start(store: Path) -> WarmPython:
        process = start_workbench("train", "digits", "--trainer.max_epochs", "100000", "--store", store)
        assert process.stderr is not None
        assert any(line.startswith("epoch 2/") for line in process.stderr), "training ended by itself"
        return process

    return start


@pytest.fixture(scope="session")
def poll() -> Callable[..., Any]:
    """Waits until a condition is true and returns its value; fails after `seconds`."""

    def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"the condition was not true within {seconds} s"
            time.sleep(0.2)  # checking a store uses a core that the other process needs
        return found

    return until


@pytest.fixture(scope="session")
def digits_printed(digits_folder: Path) -> "subprocess.CompletedProcess[str]":
    """The output of `workbench train digits … --json`."""
    return _finish(_start(*DIGITS, "--store", digits_folder))


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits") / "store"


@pytest.fixture(scope="session")
def digits_store(digits_folder: Path, digits_printed: "subprocess.CompletedProcess[str]") -> Path:
    """The store with the run of `digits_printed`. Tests only read it."""
    assert digits_printed.returncode == 0, digits_printed.stderr
    return digits_folder


@pytest.fixture(scope="session")
def twin_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the same command in a new process of its own."""
    store = tmp_path_factory.mktemp("twin") / "store"
    subprocess.run([sys.executable, "-m", "workbench", *DIGITS, "--store", str(store)], check=True, capture_output=True)
    return store


@pytest.fixture(scope="session")
def client(digits_store: Path) -> "MlflowClient":
    """Plain MLflow's client of `digits_store`."""
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{digits_store}/mlflow.db")


@pytest.fixture(scope="session")
def first_run(client: "MlflowClient") -> "Run":
    """The run `first`: digits, 3 epochs, one thread, seed 0."""
    (found,) = client.search_runs(["1"], "attributes.run_name = 'first'")
    return found


@pytest.fixture(scope="session")
def first_folder(first_run: "Run") -> Path:
    """The folder with the artifacts of `first_run`."""
    return Path(first_run.info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="session")
def second_run(client: "MlflowClient", first_run: "Run", digits_store: Path) -> "Run":
    """The run `second` in the same store. Only its seed and optimizer.lr differ from those of `first`."""
    overrides = {"trainer.max_epochs": 3, "trainer.threads": 1, "seed": 1, "optimizer.lr": 0.001}
    watch().run_ended = time.perf_counter()  # what tests have read so far was not for this run
    result = run(load_config("digits", overrides), name="second", store=Store.open(digits_store))
    return client.get_run(result.run_id)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets in WORKBENCH_DATA. Skips the test if the variable is not set."""
    if _REAL_DATA is None:
        pytest.skip("set WORKBENCH_DATA to the folder that holds fashion_mnist/")
    return Path(_REAL_DATA)


@pytest.fixture(scope="session")
def scratch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store into which several tests write their own runs."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def scratch_store(scratch_folder: Path) -> Store:
    """The store in `scratch_folder`, opened again for each test."""
    store = Store.open(scratch_folder)
    store.ensure_database()
    return store


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


class TrackingServer:
    """A real MLflow tracking server on loopback that proxies artifacts. It keeps its address and data over restarts."""

    def __init__(self, folder: Path, poll: Callable[..., None]) -> None:
        self._folder, self._poll = folder, poll
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        folder, port = self._folder, str(self._port)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
        command += ["--artifacts-destination", str(folder / "a")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self._poll(self._is_up, 120)

    @property
    def group(self) -> int:
        """The id of the server's process group, for `os.killpg`."""
        return self._process.pid

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        self._process.wait()

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        try:
            with urlopen(f"{self.url}/health") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="session")
def stoppable_server(tmp_path_factory: pytest.TempPathFactory, poll: Callable[..., None]) -> Iterator[TrackingServer]:
    """The server of `tracking_server`. A test that stops it must start it again."""
    server = TrackingServer(tmp_path_factory.mktemp("server"), poll)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def tracking_server(stoppable_server: TrackingServer) -> str:
    """The URL of a real MLflow tracking server on loopback that proxies artifacts."""
    return stoppable_server.url
