"""Simulated sweeps against a table whose best point is known."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search.simulate import BASELINE, BUDGETS, Way, ratio, simulate
from benchmarks.search.table import Row
from benchmarks.search.ways import compare
from benchmarks.search.world import World
from sweeps import load_sweep
from sweeps.strategy.space import SearchSpace

EPOCHS = 4


def row(number: int, space: SearchSpace, place: Sequence[float], noise: float) -> Row:
    """The best learning rate is 0.01, whatever else; SGD is worse by 2 points."""
    params = space.at(place)
    distance = abs(math.log10(float(str(params["optimizer.lr"]))) + 2)
    final = 0.95 - 0.1 * distance**2 - 0.02 * (params["optimizer.kind"] == "sgd") + noise
    accuracy = [final - 0.1 * (EPOCHS - epoch) for epoch in range(1, EPOCHS + 1)]
    return Row(
        trial=number, design="sobol", point=number, place=list(place), params=params, seed=number, accuracy=accuracy,
        loss=[0.1] * EPOCHS, seconds=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    space = load_sweep("digits").space
    random = np.random.default_rng(0)
    rows = [row(n, space, random.random(len(space.parameters)), 0.003 * random.standard_normal()) for n in range(150)]
    return World(rows, space, 500)


def test_the_expected_score_is_that_without_noise(world: World) -> None:
    good = {"optimizer.kind": "adam", "optimizer.lr": 0.01, "data.batch_size": 32}
    assert world.expected(good) == pytest.approx(0.95, abs=0.004)
    assert world.expected(good | {"optimizer.lr": 0.1}) == pytest.approx(0.85, abs=0.02)
    assert world.expected(good | {"optimizer.kind": "sgd", "optimizer.momentum": 0.7}) == pytest.approx(0.93, abs=0.01)
    assert world.quality()["rank_correlation"] > 0.95
    assert world.best == pytest.approx(0.95, abs=0.005)
    assert world.best >= world.expected(good)


def test_a_curve_has_the_noise_of_the_recorded_trials(world: World) -> None:
    good = {"optimizer.kind": "adam", "optimizer.lr": 0.02, "data.batch_size": 32}
    random = np.random.default_rng(0)
    curves = np.array([world.curve(good, random).values for _ in range(100)])
    assert curves.shape == (100, EPOCHS)
    assert 0.0005 < curves[:, -1].std() < 0.01
    assert np.corrcoef(curves[:, -1], curves[:, -2])[0, 1] > 0.5


def test_a_simulated_sweep_repeats_itself_and_spends_its_epochs(world: World) -> None:
    whole = Way("random, to the end", {"kind": "random"}, {"kind": "none"})
    first = simulate(world, whole, 0)
    assert first == simulate(world, whole, 0)
    assert first != simulate(world, whole, 1)
    assert first.trials == BUDGETS


def test_pruning_tries_more_points_in_the_same_epochs(world: World) -> None:
    kept = simulate(world, Way("top", {"kind": "quasi_random"}, {"kind": "top_k", "keep": 3}), 0)
    assert kept.trials[0] > 2 * BUDGETS[0]


def test_a_ratio_below_one_is_shown_with_its_interval() -> None:
    found = ratio([0.01, 0.02, 0.01, 0.02], [0.02, 0.04, 0.02, 0.04])
    assert (found.ratio, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_what_was_simulated_is_not_simulated_again(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "regrets.json"
    path.write_text(json.dumps({"150 trials": {BASELINE.name: [[0.02, 0.01, 30, 60]] * 3}}))
    compare(world, [BASELINE], 3, path)
    assert "30: 2.000 (30 trials), 1.00 [1.00, 1.00]; 60: 1.000 (60 trials)" in capsys.readouterr().out
