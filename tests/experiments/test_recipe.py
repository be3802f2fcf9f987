"""From YAML and words of the command line to fields."""

from pathlib import Path
from typing import Any

import pytest

from experiments import load_config
from experiments.recipe import parse_overrides, read_recipe, with_overrides
from lightning_modules import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("-2E5", -200000.0),
        (".5", 0.5),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("full", "full"),
        ("'1e-3'", "1e-3"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_values_are_read_as_yaml_1_2(text: str, value: Any) -> None:
    read = parse_overrides(["--field", text])["field"]
    assert read == value
    assert type(read) is type(value)


def test_an_override_s_value_follows_an_equals_sign_or_a_space() -> None:
    assert parse_overrides(["--a.b=v", "--seed", "3"]) == {"a.b": "v", "seed": 3}


def test_a_negative_number_is_a_value() -> None:
    assert parse_overrides(["--optimizer.lr", "-1"]) == {"optimizer.lr": -1}


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_overrides(["--data.path=/tmp/a=b.npz"]) == {"data.path": "/tmp/a=b.npz"}


def test_a_word_without_dashes_is_refused() -> None:
    with pytest.raises(InputError, match="stray"):
        parse_overrides(["stray"])


def test_a_flag_without_a_value_names_its_field() -> None:
    with pytest.raises(InputError) as caught:
        parse_overrides(["--optimizer.lr", "--seed", "3"])
    assert caught.value.field == "optimizer.lr"


def test_a_recipe_s_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("optimizer: {lr: 1e-3}\n")
    assert read_recipe(tmp_path / "own.yaml") == {"optimizer": {"lr": 0.001}}


def test_an_override_changes_one_leaf_and_leaves_the_tree_it_came_from() -> None:
    tree = {"optimizer": {"kind": "sgd", "lr": 0.1}}
    assert with_overrides(tree, {"optimizer.lr": 0.2}) == {"optimizer": {"kind": "sgd", "lr": 0.2}}
    assert tree == {"optimizer": {"kind": "sgd", "lr": 0.1}}


def test_an_override_reaches_into_network_args_that_the_recipe_does_not_have() -> None:
    tree = with_overrides({"model": {"network": "m.Net"}}, {"model.network_args.hidden": 64})
    assert tree == {"model": {"network": "m.Net", "network_args": {"hidden": 64}}}


def test_an_override_of_network_args_arrives_in_the_config() -> None:
    config = load_config("digits", parse_overrides(["--model.network_args.hidden", "64"]))
    assert config.model.network_args == {"hidden": 64}


def test_an_empty_recipe_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config(str(tmp_path / "empty.yaml")).data.source == "digits"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"], ids=["list", "broken"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml") as caught:
        load_config(str(tmp_path / "bad.yaml"))
    assert "\n" not in str(caught.value)
