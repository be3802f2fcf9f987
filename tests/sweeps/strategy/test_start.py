"""Warm starts: which points come first, and that they come once."""

from typing import TYPE_CHECKING

import pytest

from lightning_modules import InputError
from sweeps.strategy.space import Point, SearchSpace
from sweeps.study.stage import settle
from sweeps.study.storage import reopen

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

SPACE = "space: {optimizer.lr: {low: 0.1, high: 0.9}, data.batch_size: [8, 16]}"
POINTS = "start: {points: [{optimizer.lr: 0.25, data.batch_size: 16}, {optimizer.lr: 0.75}]}"


def lr(point: Point) -> float:
    return float(str(point["optimizer.lr"]))


def test_given_points_come_first_and_what_they_leave_out_is_drawn(untrained: "Untrained") -> None:
    points = untrained.run(untrained.sweep(f"{SPACE}\n{POINTS}", **{"budget.trials": 4}))
    assert points[0] == {"optimizer.lr": 0.25, "data.batch_size": 16}
    assert lr(points[1]) == 0.75
    assert points[1]["data.batch_size"] in (8, 16)
    assert not {lr(point) for point in points[2:]} & {0.25, 0.75}


@pytest.mark.parametrize("kind", ["tpe", "quasi_random"])
def test_given_points_are_not_repeated_when_the_sweep_goes_on(untrained: "Untrained", kind: str) -> None:
    recipe = f"{SPACE}\n{POINTS}\nsampler: {{kind: {kind}}}"
    whole = untrained.run(untrained.sweep(recipe, name="whole", **{"budget.trials": 6}))
    cut = [
        point
        for trials in (1, 3, 6)
        for point in untrained.run(untrained.sweep(recipe, name="cut", **{"budget.trials": trials}))
    ]
    assert cut == whole
    assert [lr(point) for point in whole].count(0.25) == 1


def test_a_given_point_whose_process_died_is_tried_again_and_then_given_up(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}\n{POINTS}\nbudget: {{trials: 2}}\nretries: 1")
    search = untrained.search(sweep)
    for _ in range(2):
        deadly = search.claim()
        assert deadly is not None
        assert lr(deadly.params) == 0.25
        settle(search.study, deadly.trial, "died")
    first, second = untrained.run(sweep)
    assert lr(first) == 0.75
    assert lr(second) not in (0.25, 0.75)


def test_a_given_point_is_not_lost_when_a_process_is_killed_while_it_takes_it(
    untrained: "Untrained", monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = untrained.sweep(f"{SPACE}\n{POINTS}\nbudget: {{trials: 2}}")
    search = untrained.search(sweep)
    with monkeypatch.context() as patch:
        patch.setattr(SearchSpace, "suggest", _killed)
        with pytest.raises(KeyboardInterrupt):
            search.claim()
    (killed,) = search.trials()
    settle(search.study, reopen(search.study, killed), "died")
    assert [lr(point) for point in untrained.run(sweep)] == [0.25, 0.75]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_best_of_an_earlier_sweep_within_the_space_come_first(untrained: "Untrained") -> None:
    earlier = untrained.sweep(SPACE, name="earlier", **{"budget.trials": 8})
    best = sorted((point for point in untrained.run(earlier, lr) if lr(point) <= 0.6), key=lr, reverse=True)
    narrower = "space: {optimizer.lr: {low: 0.1, high: 0.6}, optimizer.weight_decay: [0.0, 0.1]}"
    later = untrained.sweep(f"{narrower}\nstart: {{sweep: earlier, top: 2}}", name="later", **{"budget.trials": 3})
    points = untrained.run(later)
    assert [lr(point) for point in points[:2]] == [lr(point) for point in best[:2]]
    assert lr(points[2]) not in [lr(point) for point in best]
    assert all(point.keys() == {"optimizer.lr", "optimizer.weight_decay"} for point in points)


def test_the_earlier_sweep_is_looked_up_once(untrained: "Untrained") -> None:
    untrained.run(untrained.sweep(SPACE, name="earlier", **{"budget.trials": 2}), lr)
    recipe = f"{SPACE}\nstart: {{sweep: earlier, top: 2}}"
    first = untrained.run(untrained.sweep(recipe, name="later", **{"budget.trials": 1}))
    untrained.run(untrained.sweep(SPACE, name="earlier", **{"budget.trials": 8}), lr)
    second = untrained.run(untrained.sweep(recipe, name="later", **{"budget.trials": 2}))
    earlier = untrained.search(untrained.sweep(SPACE, name="earlier")).trials()[:2]
    assert sorted(map(lr, first + second)) == sorted(lr(trial.params) for trial in earlier)


def test_an_earlier_sweep_that_cannot_be_used_is_refused(untrained: "Untrained") -> None:
    untrained.run(untrained.sweep(SPACE, name="earlier", **{"budget.trials": 1}))
    for recipe, words in (
        (f"{SPACE}\nstart: {{sweep: earlyer}}", "did you mean 'earlier'"),
        ("space: {optimizer.weight_decay: [0.0, 0.1]}\nstart: {sweep: earlier}", "within this sweep's space"),
    ):
        sweep = untrained.sweep(recipe, name="later")
        with pytest.raises(InputError, match=r"^start\.sweep: ") as caught:
            untrained.search(sweep)
        assert words in str(caught.value)


def test_a_started_sweep_refuses_another_start(untrained: "Untrained") -> None:
    untrained.search(untrained.sweep(SPACE))
    with pytest.raises(InputError, match=r"^start\.points: .*--name"):
        untrained.search(untrained.sweep(f"{SPACE}\n{POINTS}"))


@pytest.mark.parametrize(
    ("start", "field", "words"),
    [
        ("{points: [{optimizer.lrr: 0.5}]}", "start.points[0].optimizer.lrr", "did you mean 'optimizer.lr'"),
        ("{points: [{}, {optimizer.lr: 2.0}]}", "start.points[1].optimizer.lr", "[0.1, 0.9]"),
        ("{points: [{data.batch_size: 32}]}", "start.points[0].data.batch_size", "8, 16"),
        ("{points: {optimizer.lr: 0.5}}", "start.points", "a list"),
        ("{sweep: test}", "start.sweep", "itself"),
        ("{sweep: other, top: 0}", "start.top", "1 or more"),
    ],
)
def test_a_start_outside_the_space_is_refused_before_any_trial(
    untrained: "Untrained", start: str, field: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        untrained.sweep(f"{SPACE}\nstart: {start}")
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_point_with_a_conditional_field_needs_what_it_hangs_on(untrained: "Untrained") -> None:
    space = (
        "space: {optimizer.kind: [sgd, adam], optimizer.momentum: {low: 0.5, high: 0.9, when: {optimizer.kind: sgd}}}"
    )
    with pytest.raises(InputError, match=r"exists only if optimizer\.kind is sgd"):
        untrained.sweep(f"{space}\nstart: {{points: [{{optimizer.momentum: 0.6}}]}}")
    untrained.sweep(f"{space}\nstart: {{points: [{{optimizer.momentum: 0.6, optimizer.kind: sgd}}]}}")
