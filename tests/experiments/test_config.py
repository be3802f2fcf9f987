"""The typed configuration of a run."""

from pathlib import Path
from typing import Any

import pytest

from experiments import ExperimentConfig, load_config
from experiments.config import RECIPES, flatten
from lightning_modules import InputError


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_loads(recipe: str) -> None:
    assert recipe.startswith(load_config(recipe).data.source)


def test_fashion_mnist_has_the_seed_s_settings() -> None:
    config = load_config("fashion_mnist")
    assert (config.optimizer.kind, config.optimizer.lr, config.data.batch_size) == ("adam", 0.001, 32)
    assert (config.trainer.max_epochs, config.model.loss, config.data.normalization) == (
        10,
        "cross_entropy",
        "per_pixel",
    )


def test_yaml_of_a_config_loads_as_the_same_config(tmp_path: Path) -> None:
    config = load_config("digits", {"optimizer.lr": 1e-5, "model.network_args": {"hidden": 16}, "seed": 7})
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert load_config(str(tmp_path / "again.yaml")) == config


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("arrays", {"data.path": "own.npz"}).data.path == str(tmp_path / "own.npz")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes that is not the working directory, which has files of the same names."""
    for folder in ("recipes", "work"):
        (tmp_path / folder / "data").mkdir(parents=True)
        for name in ("data/own.npz", "data/groups.npy", "start.ckpt"):
            (tmp_path / folder / name).touch()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "recipes"


FILES = """
data: {source: arrays, path: data/own.npz, groups: data/groups.npy}
model: {weights: start.ckpt}
"""


def test_paths_in_a_recipe_are_relative_to_the_recipe(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text(FILES)
    config = load_config("../recipes/mine.yaml")
    assert config.data.path == str(elsewhere / "data/own.npz")
    assert config.data.groups == str(elsewhere / "data/groups.npy")
    assert config.model.weights == str(elsewhere / "start.ckpt")


def test_paths_on_the_command_line_are_relative_to_the_working_directory(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text(FILES)
    overrides = {"data.path": "data/own.npz", "model.weights": "start.ckpt"}
    config = load_config("../recipes/mine.yaml", overrides)
    assert config.data.path == str(Path.cwd() / "data/own.npz")
    assert config.model.weights == str(Path.cwd() / "start.ckpt")
    assert config.data.groups == str(elsewhere / "data/groups.npy")


def test_a_file_in_the_working_directory_is_found_if_none_is_beside_the_recipe(elsewhere: Path) -> None:
    (elsewhere / "data/own.npz").unlink()
    (elsewhere / "mine.yaml").write_text(FILES)
    assert load_config(str(elsewhere / "mine.yaml")).data.path == str(Path.cwd() / "data/own.npz")


def test_data_that_are_nowhere_are_missed_beside_the_recipe(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("data: {source: arrays, path: data/none.npz}\nmodel: {weights: latest}\n")
    config = load_config(str(elsewhere / "mine.yaml"))
    assert config.data.path == str(elsewhere / "data/none.npz")
    assert config.model.weights == "latest"  # a run


def test_overrides_of_a_config_are_checked() -> None:
    with pytest.raises(InputError, match=r"optimizer\.lr"):
        ExperimentConfig().with_overrides({"optimizer.lr": -1.0})


def test_balancing_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.class_weights: data\.sampling is balanced too"):
        load_config("digits", {"model.class_weights": "balanced", "data.sampling": "balanced"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("experiment", " "),
        ("trainer.max_epochs", 0),
        ("trainer.threads", 0),
        ("trainer.weights", "first"),
        ("trainer.max_epochs", 1.5),
        ("trainer.max_epochs", "3"),
        ("trainer.exact", "true"),
        ("seed", True),
        ("data.batch_size", "half"),
        ("optimizer", "adam"),
        ("optimizer.schedule.kind", None),
        ("optimizer.lr", None),
        ("seed", None),
        ("experiment", None),
    ],
)
def test_a_wrong_value_is_named_with_its_field(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        load_config("digits", {field: value})
    assert (caught.value.field, caught.value.value) == (field, value)


def test_flatten_joins_with_dots_and_keeps_an_empty_mapping() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": None}) == {"a.b": 1, "a.c": {}, "d": None}


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("trainer.max_epochs", 10**6),
        ("trainer.min_epochs", 10**6),
        ("trainer.threads", 1024),
        ("trainer.accumulate_grad_batches", 10**9),
        ("trainer.limit_train_batches", 10**9),
        ("trainer.reload_dataloaders_every_n_epochs", 10**6),
        ("data.batch_size", 10**9),
        ("data.augmentation.shift", 10_000),
        ("seed", 2**32 - 1),
    ],
)
def test_numbers_have_upper_bounds(field: str, most: int) -> None:
    for value in (most + 1, 99_999_999_999_999_999_999, 10**4000):
        with pytest.raises(InputError, match=rf"^{field}: must be .*(at most|below) [0-9,]+.* \(got"):
            load_config("digits", {field: value})
    assert load_config("digits", {field: most})


@pytest.mark.parametrize("size", [0, 8193, [64, 10**9], [8, 8, 8], []])
def test_an_image_has_a_longest_side(size: object) -> None:
    with pytest.raises(InputError, match=r"^data\.image_size: must be 1 pixel or more and at most 8,192"):
        load_config("digits", {"data.image_size": size})


@pytest.mark.parametrize("name", ["x" * 501, "a\0", "\ud800"])
def test_databases_can_hold_the_name_of_an_experiment(name: str) -> None:
    with pytest.raises(InputError, match=r"^experiment: (has 501 characters, more than 500|is not Unicode text)"):
        load_config("digits", {"experiment": name})
