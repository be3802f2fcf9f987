import math
from typing import Any

import optuna
import pytest

from experiments import ExperimentConfig
from lightning_modules import InputError
from sweeps.strategy.space import SearchSpace, describe

BASE = ExperimentConfig()


def draws(tree: dict[str, Any], count: int = 100) -> list[dict[str, Any]]:
    space = SearchSpace.parse(tree, BASE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_a_list_is_a_choice() -> None:
    assert {draw["data.batch_size"] for draw in draws({"data.batch_size": [16, 32, 64]})} == {16, 32, 64}


def test_what_happens_to_training_images_can_be_searched() -> None:
    tree = {"data.augmentation.shift": [1], "data.normalization": ["min_max"], "data.sampling": ["balanced"]}
    assert draws(tree, 1) == [{path: value for path, (value,) in tree.items()}]


def test_a_log_range_is_uniform_in_the_logarithm() -> None:
    logs = [math.log10(draw["optimizer.lr"]) for draw in draws({"optimizer.lr": {"low": 1e-4, "high": 1, "log": True}})]
    assert min(logs) >= -4
    assert max(logs) <= 0
    assert sum(value < -2 for value in logs) in range(35, 66)  # half of 100 below the middle, give or take 3 sigma


def test_a_range_over_a_whole_number_field_gives_both_ends_and_integers_alone() -> None:
    values = {draw["trainer.max_epochs"] for draw in draws({"trainer.max_epochs": {"low": 1, "high": 3}})}
    assert values == {1, 2, 3}
    assert all(isinstance(value, int) for value in values)


def test_a_float_field_gets_floats_from_whole_ends() -> None:
    values = [draw["optimizer.weight_decay"] for draw in draws({"optimizer.weight_decay": {"low": 0, "high": 1}})]
    assert any(value not in (0.0, 1.0) for value in values)


def test_step_divides_a_range() -> None:
    values = {
        draw["model.network_args.hidden"]
        for draw in draws({"model.network_args.hidden": {"low": 64, "high": 192, "step": 64}})
    }
    assert values == {64, 128, 192}


def test_a_conditional_parameter_exists_only_where_its_condition_holds() -> None:
    tree = {
        "optimizer.momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer.kind": ["sgd", "rmsprop"]}},
        "optimizer.kind": ["sgd", "adam", "rmsprop"],
    }
    for draw in draws(tree):
        assert ("optimizer.momentum" in draw) == (draw["optimizer.kind"] != "adam")


def test_a_condition_may_read_the_recipe() -> None:
    tree = {"optimizer.beta1": {"low": 0.8, "high": 0.95, "when": {"optimizer.kind": "adam"}}}
    assert all("optimizer.beta1" in draw for draw in draws(tree, 3))
    tree = {"optimizer.momentum": {"low": 0.8, "high": 0.95, "when": {"optimizer.kind": "sgd"}}}
    assert draws(tree, 3) == [{}, {}, {}]


def test_a_condition_on_an_absent_parameter_does_not_hold() -> None:
    tree = {
        "optimizer.kind": ["adam", "sgd"],
        "optimizer.momentum": {"choices": [0.5, 0.9], "when": {"optimizer.kind": "sgd"}},
        "optimizer.nesterov": {"choices": [True], "when": {"optimizer.momentum": [0.5, 0.9]}},
    }
    for draw in draws(tree):
        assert ("optimizer.nesterov" in draw) == (draw["optimizer.kind"] == "sgd")


@pytest.mark.parametrize(
    ("tree", "field", "word"),
    [
        ({"optimizer.lrr": [0.1]}, "space.optimizer.lrr", "optimizer.lr"),
        ({"optimizer.lr": {"low": 0.1, "high": 0.01}}, "space.optimizer.lr", "swap"),
        ({"optimizer.lr": {"low": 0, "high": 0.1, "log": True}}, "space.optimizer.lr.low", "above 0"),
        ({"optimizer.lr": {"low": "a", "high": 0.1}}, "space.optimizer.lr.low", "number"),
        ({"optimizer.lr": {"low": 0.1, "high": 0.2, "lag": True}}, "space.optimizer.lr.lag", "log"),
        ({"optimizer.lr": 0.1}, "space.optimizer.lr", "range"),
        ({"optimizer.lr": []}, "space.optimizer.lr", "choices"),
        ({"optimizer.lr": {"choices": [0.1], "low": 0.1}}, "space.optimizer.lr", "both"),
        ({"data.batch_size": {"low": 1.5, "high": 3}}, "space.data.batch_size", "whole"),
        ({"data.split_seed": [0, 1]}, "space.data.split_seed", "same for all trials"),
        ({"data.source": ["digits"]}, "space.data.source", "same for all trials"),
        ({"data.fold": [0, 1]}, "space.data.fold", "same for all trials"),
        ({"data.cleaning.duplicates": ["drop"]}, "space.data.cleaning.duplicates", "same for all trials"),
        ({"optimizer.lr": [0.1, -0.1]}, "space.optimizer.lr", "-0.1"),
        ({"optimizer.kind": ["adam", "adm"]}, "space.optimizer.kind", "adamw"),
        ({"optimizer.momentum": [0.9]}, "space.optimizer.momentum", "adam"),
        ({"optimizer.lr": {"choices": [0.1], "when": {"optimizer.knd": 1}}}, "space.optimizer.lr.when", "kind"),
        (
            {
                "optimizer.beta1": {"choices": [0.9], "when": {"optimizer.beta2": 0.9}},
                "optimizer.beta2": {"choices": [0.9], "when": {"optimizer.beta1": 0.9}},
            },
            "space",
            "circle",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_trial(tree: dict[str, Any], field: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSpace.parse(tree, BASE)
    assert caught.value.field == field
    assert word in str(caught.value)


def test_a_point_is_described_in_few_words() -> None:
    point = {"optimizer.kind": "sgd", "optimizer.lr": 0.031234, "optimizer.momentum": 0.9}
    assert describe(point) == "sgd lr=0.0312 momentum=0.9"


def test_a_condition_on_a_value_that_is_no_choice_is_refused() -> None:
    tree = {
        "optimizer.kind": ["sgd", "adam"],
        "optimizer.momentum": {"choices": [0.9], "when": {"optimizer.kind": "sdg"}},
    }
    with pytest.raises(InputError, match=r"^space\.optimizer\.momentum\.when: .*did you mean 'sgd'"):
        SearchSpace.parse(tree, BASE)


def test_a_misspelt_network_argument_is_refused() -> None:
    with pytest.raises(InputError, match=r"^space\.model\.network_args\.hiden: .*did you mean 'hidden'"):
        SearchSpace.parse({"model.network_args.hiden": [64, 128]}, BASE)


def test_a_bad_choice_is_found_in_a_space_too_large_to_try_every_corner() -> None:
    tree: dict[str, Any] = {"optimizer.kind": ["adam", "sgd"], "optimizer.beta1": {"low": 0.8, "high": 0.9}}
    tree |= {"optimizer.lr": {"low": 0.1, "high": 0.2}, "data.batch_size": [8, 16, 32, 64, 128]}
    tree |= {"trainer.max_epochs": [1, 2, 3, 4, 5], "model.network_args.hidden": [16, 32, 64, 128, 256]}
    with pytest.raises(InputError, match=r"beta1.*sgd"):
        SearchSpace.parse(tree, BASE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 1, "high": 2**53 + 1}, r"space\.optimizer\.lr\.high: is too large"),
        ({"low": 0.1, "high": math.inf}, r"space\.optimizer\.lr\.high: is too large"),
        ({"low": -math.inf, "high": 1.0}, r"space\.optimizer\.lr\.low: is too large"),
        ({"low": math.nan, "high": 1.0}, r"space\.optimizer\.lr\.low: is too large"),
        ({"low": 0.1, "high": 1.0, "step": 5e-324}, r"space\.optimizer\.lr\.step: makes too many steps"),
        ({"low": 0.1, "high": 1.0, "step": 10**400}, r"space\.optimizer\.lr\.step: makes too many steps"),
    ],
)
def test_ranges_have_bounds(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        SearchSpace.parse({"optimizer.lr": given}, BASE)


def test_a_space_has_a_most_of_fields() -> None:
    tree = {f"model.network_args.a{index}": [1, 2] for index in range(501)}
    with pytest.raises(InputError, match=r"^space: has more than 500 fields"):
        SearchSpace.parse(tree, BASE)


def test_a_long_choice_is_cut_in_the_description_of_a_point() -> None:
    assert describe({"model.network_args.kind": "\x1b" + "x" * 100}) == "\\x1b" + "x" * 59 + "… (101 characters)"


@pytest.mark.parametrize("choice", ["x" * 251, "\ud800", "a\0"])
def test_a_choice_is_short_text(choice: str) -> None:
    with pytest.raises(InputError, match=r"^space\.optimizer\.kind: a choice is no Unicode text of at most 250"):
        SearchSpace.parse({"optimizer.kind": ["sgd", choice]}, BASE)
