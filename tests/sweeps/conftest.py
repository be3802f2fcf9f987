"""What the tests of sweeps share: sweeps whose trials train nothing or wait, and a PostgreSQL server."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.postgres import Postgres, is_installed
from experiments import Store, load_config
from experiments.provenance.gather import code_for
from lightning_modules import ImageDataModule
from sweeps import Sweep, load_sweep
from sweeps.strategy.space import Point
from sweeps.study.search import Search
from sweeps.study.stage import settle


@pytest.fixture
def open_search() -> Iterator[Callable[..., Search]]:
    """Opens searches that stay open until the test ends."""
    with ExitStack() as stack:
        yield lambda store, sweep, data="data": stack.enter_context(
            Search.open(store, sweep, data, code_for(sweep.base, store))
        )


@pytest.fixture
def untrained(tmp_path: Path, open_search: Callable[..., Search]) -> "Untrained":
    return Untrained(tmp_path, open_search)


class Untrained:
    """Writes sweep recipes over digits, and runs their trials with a function of the point in place of training."""

    def __init__(self, folder: Path, open_search: Callable[..., Search]) -> None:
        self.store = Store.open(folder / "store")
        self._folder, self._open_search = folder, open_search

    def sweep(self, lines: str, *, name: str = "test", **overrides: object) -> Sweep:
        recipe = self._folder / "test.yaml"
        recipe.write_text(f"recipe: digits\n{lines}")
        return load_sweep(str(recipe), overrides, name=name)

    def search(self, sweep: Sweep) -> Search:
        return self._open_search(self.store, sweep)

    def run(self, sweep: Sweep, score: Callable[[Point], float] = lambda point: 0.5) -> list[Point]:
        """Runs what is missing of the sweep, each trial finished; the points it tried."""
        search = self.search(sweep)
        points = []
        while taken := search.claim():
            settle(search.study, taken.trial, "finished", value=score(taken.params))
            points.append(taken.params)
        return points


# A network that goes on with its third epoch only once a file is there.
WAITING = """
import time
from pathlib import Path
from lightning_modules import BaselineCNN

class Net(BaselineCNN):
    batches = 0

    def forward(self, images):
        if self.training:
            self.batches += 1
            while self.batches > 2 * {batches} and not Path({file!r}).exists():
                time.sleep(0.01)
        return super().forward(images)
"""


@pytest.fixture
def waiting_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, tuple[str | Path, ...]]:
    """The file that its trials wait for in their third epoch, and the words of a sweep of two such trials."""
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    batches = len(data.train_dataloader())
    (tmp_path / "waiting_net.py").write_text(WAITING.format(batches=batches, file=str(tmp_path / "go")))
    (tmp_path / "waiting.yaml").write_text(
        "recipe: digits\nspace: {optimizer.lr: {low: 0.001, high: 0.1, log: true}}\nbudget: {trials: 2}\n"
        "overrides: {model.network: waiting_net.Net, trainer.max_epochs: 4}\npruner: {kind: none}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "go", ("sweep", tmp_path / "waiting.yaml", "--workers", "1")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server on loopback."""
    if not is_installed():
        message = "needs Debian's package postgresql"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to the server, another user's
        server = Postgres(Path(folder), "fsync=off")
        yield server
        server.stop()
