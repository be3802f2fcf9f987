"""What the tests of sweeps share: sweeps whose trials train nothing, and a PostgreSQL server."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.postgres import Postgres, is_installed
from experiments import Store
from sweeps import Sweep, load_sweep
from sweeps.strategy.space import Point
from sweeps.study.search import Search
from sweeps.study.stage import settle


@pytest.fixture
def untrained(tmp_path: Path) -> "Untrained":
    return Untrained(tmp_path)


class Untrained:
    """Writes sweep recipes over digits, and runs their trials with a function of the point in place of training."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "store")
        self._folder = folder

    def sweep(self, lines: str, *, name: str = "test", **overrides: object) -> Sweep:
        recipe = self._folder / "test.yaml"
        recipe.write_text(f"recipe: digits\n{lines}")
        return load_sweep(str(recipe), overrides, name=name)

    def run(self, sweep: Sweep, score: Callable[[Point], float] = lambda point: 0.5) -> list[Point]:
        """Runs what is missing of the sweep, each trial finished; the points it tried."""
        search = Search.open(self.store, sweep, "data")
        points = []
        while taken := search.claim():
            settle(search.study, taken.trial, "finished", value=score(taken.params))
            points.append(taken.params)
        return points


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
