"""Samplers: each draws, each is cut in two without a trace, and what one cannot do is refused."""

import math
from typing import TYPE_CHECKING

import pytest

from lightning_modules import InputError
from sweeps.strategy.space import Point
from sweeps.study.stage import settle

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

RANGES = """
space:
  optimizer.lr: {low: 0.001, high: 0.1, log: true}
  data.batch_size: {low: 8, high: 64}
  optimizer.weight_decay: {low: 0.0, high: 0.1}
"""
CONDITIONAL = """
space:
  optimizer.kind: [sgd, adam]
  optimizer.momentum: {low: 0.5, high: 0.7, step: 0.1, when: {optimizer.kind: sgd}}
"""


def score(point: Point) -> float:
    """Best, with 0, at a learning rate of 0.01 and batches of 20."""
    lr, batch_size = point["optimizer.lr"], point["data.batch_size"]
    assert isinstance(lr, float)
    assert isinstance(batch_size, int)
    return -((math.log10(lr) + 2) ** 2) - ((batch_size - 20) / 40) ** 2


@pytest.mark.parametrize(
    "sampler",
    [
        "{kind: tpe, startup_trials: 3, candidates: 8}",
        "{kind: tpe, startup_trials: 4, startup: quasi_random, group: true}",
        "{kind: gp, startup_trials: 5}",
        "{kind: cmaes, population: 4}",
        "{kind: random}",
        "{kind: quasi_random}",
    ],
)
def test_a_sweep_cut_in_two_draws_what_the_whole_one_draws(untrained: "Untrained", sampler: str) -> None:
    recipe = f"{RANGES}\nsampler: {sampler}\n"
    whole = untrained.run(untrained.sweep(recipe, name="whole", **{"budget.trials": 8}), score)
    cut = untrained.run(untrained.sweep(recipe, name="cut", **{"budget.trials": 6}), score)
    cut += untrained.run(untrained.sweep(recipe, name="cut", **{"budget.trials": 8}), score)
    assert cut == whole
    assert len({str(point) for point in whole}) == 8


def test_cma_es_keeps_its_generations_in_the_study(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{RANGES}\nsampler: {{kind: cmaes, population: 4}}\nbudget: {{trials: 10}}")
    untrained.run(sweep, score)
    trials = untrained.search(sweep).trials()
    # The first trial is drawn at random; then every four complete trials make the next generation.
    assert [trial.system_attrs.get("cma:generation") for trial in trials] == [None, 0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_a_quasi_random_sequence_takes_each_of_eight_values_once_in_eight_trials(untrained: "Untrained") -> None:
    space = "space: {data.batch_size: [1, 2, 3, 4, 5, 6, 7, 8], optimizer.lr: {low: 0.1, high: 0.9}}"
    points = untrained.run(untrained.sweep(f"{space}\nsampler: {{kind: quasi_random}}\nbudget: {{trials: 8}}"))
    assert sorted(int(str(point["data.batch_size"])) for point in points) == [1, 2, 3, 4, 5, 6, 7, 8]
    eighths = sorted(int((float(str(point["optimizer.lr"])) - 0.1) / 0.1) for point in points)
    assert eighths == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_grid_tries_every_point_of_a_conditional_space_once(untrained: "Untrained") -> None:
    points = untrained.run(untrained.sweep(f"{CONDITIONAL}\nsampler: {{kind: grid}}\nbudget: {{trials: 4}}"))
    sgd = [{"optimizer.kind": "sgd", "optimizer.momentum": momentum} for momentum in (0.5, 0.6, 0.7)]
    assert sorted(points, key=str) == [{"optimizer.kind": "adam"}, *sgd]


def test_a_grid_cut_in_two_goes_on_where_it_was(untrained: "Untrained") -> None:
    recipe = f"{CONDITIONAL}\nsampler: {{kind: grid}}"
    whole = untrained.run(untrained.sweep(recipe, name="whole", **{"budget.trials": 4}))
    cut = untrained.run(untrained.sweep(recipe, name="cut", **{"budget.trials": 3}))
    assert cut + untrained.run(untrained.sweep(recipe, name="cut", **{"budget.trials": 4})) == whole


def test_a_grid_gives_up_a_point_that_kills_its_process(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{CONDITIONAL}\nsampler: {{kind: grid}}\nbudget: {{trials: 4}}\nretries: 1")
    search = untrained.search(sweep)
    for _ in range(2):
        deadly = search.claim()
        assert deadly is not None
        settle(search.study, deadly.trial, "died")
    rest = untrained.run(sweep)
    assert len(rest) == 3
    assert deadly.params not in rest


@pytest.mark.parametrize(
    ("recipe", "field", "words"),
    [
        (f"{CONDITIONAL}\nsampler: {{kind: gp}}", "sampler.kind", "conditional optimizer.momentum"),
        (f"{CONDITIONAL}\nsampler: {{kind: cmaes}}", "sampler.kind", "choices of optimizer.kind"),
        (f"{RANGES}\nsampler: {{kind: grid}}", "space.optimizer.lr", "finite"),
        (f"{CONDITIONAL}\nsampler: {{kind: grid}}\nbudget: {{trials: 5}}", "budget.trials", "4 points"),
        (
            f"{CONDITIONAL}\nsampler: {{kind: grid}}\nbudget: {{hours: 1}}\nstart: {{sweep: a}}",
            "sampler.kind",
            "warm start",
        ),
        (
            "space: {optimizer.lr: {low: 0.0001, high: 1.0, step: 0.0001}, data.batch_size: {low: 1, high: 64}}\n"
            "sampler: {kind: grid}\nbudget: {hours: 1}",
            "sampler.kind",
            "100,000",
        ),
        (f"{RANGES}\nsampler: {{kind: cmea}}", "sampler.kind", "did you mean 'cmaes'"),
        (f"{RANGES}\nsampler: {{kind: tpe, candidate: 3}}", "sampler.candidate", "sampler.candidates"),
        (f"{RANGES}\nsampler: {{kind: random, candidates: 3}}", "sampler.candidates", "tpe"),
        (f"{RANGES}\nsampler: {{kind: cmaes, population: 3}}", "sampler.population", "4 or more"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused_before_any_trial(
    untrained: "Untrained", recipe: str, field: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        untrained.sweep(recipe)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_quasi_random_start_tries_the_first_points_of_the_sequence(untrained: "Untrained") -> None:
    started = untrained.sweep(
        f"{RANGES}\nsampler: {{kind: tpe, startup_trials: 4, startup: quasi_random}}", **{"budget.trials": 6}
    )
    sequence = untrained.sweep(f"{RANGES}\nsampler: {{kind: quasi_random}}", name="all", **{"budget.trials": 6})
    points, expected = untrained.run(started, score), untrained.run(sequence, score)
    assert points[:4] == expected[:4]
    assert points[4] not in expected
