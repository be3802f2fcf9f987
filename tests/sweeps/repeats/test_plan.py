"""Which runs repeats have, and what is refused before anything is written."""

from pathlib import Path

import pytest

from experiments import load_config
from lightning_modules import InputError
from sweeps.repeats.plan import count_of, name_of, plan_repeats, seed_of

ROOT = Path(__file__).parents[3]


def test_seeds_are_the_recipe_s_own_and_those_that_follow_whatever_their_number() -> None:
    config = load_config("digits", {"seed": 7})
    five, eight = (plan_repeats(config, name="r", seeds=count, folds=None) for count in (5, 8))
    assert [seed_of(five, slot) for slot in range(count_of(five))] == [7, 8, 9, 10, 11]
    assert [seed_of(eight, slot) for slot in range(5)] == [7, 8, 9, 10, 11]
    assert name_of(five, 2) == "seed 9"


def test_after_the_largest_seed_comes_0() -> None:
    repeats = plan_repeats(load_config("digits", {"seed": 2**32 - 1}), name="r", seeds=2, folds=None)
    assert [seed_of(repeats, slot) for slot in range(2)] == [2**32 - 1, 0]


def test_folds_have_the_recipe_s_seed_and_complete_configurations() -> None:
    repeats = plan_repeats(load_config("digits", {"seed": 7}), name="r", seeds=None, folds=3)
    configs = [repeats.trial_config({"data.fold": slot}, seed_of(repeats, slot)) for slot in range(count_of(repeats))]
    assert [(each.seed, each.data.folds, each.data.fold) for each in configs] == [(7, 3, 0), (7, 3, 1), (7, 3, 2)]
    assert name_of(repeats, 2) == "fold 2"


def test_the_objective_is_the_monitored_metric() -> None:
    config = load_config("digits", {"trainer.monitor": "val/loss"})
    repeats = plan_repeats(config, name="r", seeds=2, folds=None)
    assert (repeats.config.objective.metric, repeats.config.objective.direction) == ("val/loss", "minimize")


@pytest.mark.parametrize(
    ("seeds", "folds", "overrides", "field", "said"),
    [
        (1, None, {}, "--seeds", "one run has no spread"),
        (None, 1, {}, "--folds", "one run has no spread"),
        (None, 2000, {}, "--folds", "from 2 to 1,000"),
        (5, 5, {}, "--folds", "both a seed and a fold"),
        (None, None, {}, "--seeds", "is missing"),
        (None, 3, {"data.folds": 5, "data.fold": 1}, "--folds", "data.folds 5 already"),
    ],
)
def test_what_makes_no_sense_is_refused(
    seeds: int | None, folds: int | None, overrides: dict[str, object], field: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        plan_repeats(load_config("digits", overrides), name="r", seeds=seeds, folds=folds)
    assert refused.value.field == field


def test_folds_of_a_data_module_of_the_user_s_own_are_refused() -> None:
    diabetes = load_config(str(ROOT / "examples/regression/diabetes.yaml"))
    with pytest.raises(InputError, match="makes its own splits") as refused:
        plan_repeats(diabetes, name="r", seeds=None, folds=3)
    assert refused.value.field == "--folds"
