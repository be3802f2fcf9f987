"""The ways to search that are compared, and their regrets."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from benchmarks.search.simulate import BASELINE, BUDGETS, Way, ratio, simulate
from benchmarks.search.world import World

_TPE, _SOBOL = {"kind": "tpe"}, {"kind": "tpe", "startup": "quasi_random"}
_LATE = {"kind": "percentile", "percentile": 67.0, "startup_trials": 6, "warmup_epochs": 3}
WAYS = (
    BASELINE,
    Way("TPE, none", _TPE, {"kind": "none"}),
    Way("TPE, top 5 after 1 epoch", _TPE, {"kind": "top_k"}),
    Way("TPE, top 10 after 1 epoch", _TPE, {"kind": "top_k", "keep": 10}),
    Way("TPE, top 5 after 3 epochs", _TPE, {"kind": "top_k", "min_epochs": 3}),
    Way("TPE, best 67 % after 3 epochs", _TPE, _LATE),
    Way("TPE, best 25 %", _TPE, {"kind": "percentile"}),
    Way("TPE, successive halving", _TPE, {"kind": "successive_halving"}),
    Way("TPE, Hyperband", _TPE, {"kind": "hyperband"}),
    Way("TPE with group, median", _TPE | {"group": True}, {"kind": "median"}),
    Way("TPE from a quasi-random start, median", _SOBOL, {"kind": "median"}),
    Way("TPE from 20 quasi-random trials, median", _SOBOL | {"startup_trials": 20}, {"kind": "median"}),
    Way("Gaussian process, none", {"kind": "gp"}, {"kind": "none"}),
    Way("Gaussian process, median", {"kind": "gp"}, {"kind": "median"}),
    Way("CMA-ES, median", {"kind": "cmaes"}, {"kind": "median"}),
    Way("quasi-random, median", {"kind": "quasi_random"}, {"kind": "median"}),
    Way("quasi-random, top 5 after 1 epoch", {"kind": "quasi_random"}, {"kind": "top_k"}),
    Way("random, none", {"kind": "random"}, {"kind": "none"}),
)


def compare(world: World, ways: Sequence[Way], replays: int, path: Path | None) -> None:
    """Prints each way's mean regrets, in points of accuracy, and their ratios to the baseline's, with 95 % intervals.

    `path`: a file that keeps every replay's regrets, so that what it has is not simulated again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kept = json.loads(path.read_text()) if path is not None and path.exists() else {}
    of_table = kept.setdefault(f"{len(world.rows)} trials", {})  # a table that has grown is another one
    quality = ", ".join(f"{name} {value:.2f}" for name, value in world.quality().items())
    print(f"{len(world.rows)} trials; highest expected score {world.best:.4f}; on points that were left out: {quality}")
    regrets: dict[str, np.ndarray] = {}
    for way in dict.fromkeys((BASELINE, *ways)):
        found, start = of_table.setdefault(way.name, []), time.perf_counter()
        for seed in range(len(found), replays):
            outcome = simulate(world, way, seed)
            found.append([*outcome.regrets, *outcome.trials])
            if path is not None:
                path.write_text(json.dumps(kept))
        rows = np.array(found[:replays])
        regrets[way.name] = rows[:, : len(BUDGETS)]
        cells = []
        for index, budget in enumerate(BUDGETS):
            ours, theirs = regrets[way.name][:, index], regrets[BASELINE.name][:, index]
            to = ratio(ours, theirs)
            trials = rows[:, len(BUDGETS) + index].mean()
            cells.append(
                f"{budget}: {100 * ours.mean():.3f} ({trials:.0f} trials), {to.ratio:.2f} [{to.low:.2f}, {to.high:.2f}]"
            )
        print(f"{way.name:42s} {'; '.join(cells)}; {time.perf_counter() - start:.0f} s", flush=True)
