from pathlib import Path

import pytest

from lightning_modules import InputError
from sweeps import load_sweep

RECIPES = sorted(path.stem for path in (Path(__file__).parents[2] / "sweeps" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_that_comes_along_loads(name: str) -> None:
    assert load_sweep(name).name == name


def test_overrides_go_to_the_sweep_first_and_then_to_the_recipe() -> None:
    sweep = load_sweep("digits", {"budget.trials": 3, "trainer.max_epochs": 2})
    assert sweep.config.budget.trials == 3
    assert sweep.base.trainer.max_epochs == 2


def test_a_recipes_own_overrides_are_fixed_for_all_trials(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("recipe: digits\noverrides: {trainer.max_epochs: 4}\nspace: {optimizer.lr: [0.1]}\n")
    assert load_sweep(str(recipe)).base.trainer.max_epochs == 4


def test_files_that_a_sweep_recipe_names_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("sweeps", "recipes", "work"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.npz").touch()
        (tmp_path / folder / "start.ckpt").touch()
    (tmp_path / "recipes/base.yaml").write_text("data: {source: arrays, path: own.npz}\n")
    sweep = tmp_path / "sweeps/mine.yaml"
    space = "space: {optimizer.lr: [0.1, 0.01]}\n"
    monkeypatch.chdir(tmp_path / "work")
    sweep.write_text(f"recipe: ../recipes/base.yaml\n{space}")
    assert load_sweep(str(sweep)).base.data.path == str(tmp_path / "recipes/own.npz")
    sweep.write_text(
        f"recipe: ../recipes/base.yaml\n{space}overrides: {{data.path: own.npz, model.weights: start.ckpt}}\n"
    )
    base = load_sweep(str(sweep)).base
    assert (base.data.path, base.model.weights) == (str(sweep.parent / "own.npz"), str(sweep.parent / "start.ckpt"))
    assert load_sweep(str(sweep), {"data.path": "own.npz"}).base.data.path == str(tmp_path / "work/own.npz")


def test_an_experiment_recipe_beside_the_sweep_recipe_is_found(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("experiment: beside\n")
    (tmp_path / "mine.yaml").write_text("recipe: base.yaml\nspace: {optimizer.lr: [0.1]}\n")
    assert load_sweep(str(tmp_path / "mine.yaml")).base.experiment == "beside"


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"space.optimizer.lr": [0.1]}, "space.optimizer.lr"),
        ({"budget.trails": 3}, "budget.trails"),
        ({"bugdet.trials": 3}, "bugdet.trials"),
        ({"optimizer.lrr": 3}, "optimizer.lrr"),
        ({"budget.trials": 0}, "budget.trials"),
        ({"objective.direction": "minimize"}, "objective.direction"),
        ({"objective.metric": "test/accuracy"}, "objective.metric"),
        ({"objective.metric": "val/macro_f1", "objective.direction": "minimize"}, "objective.direction"),
        ({"sampler.kind": "tpee"}, "sampler.kind"),
        ({"finalists.seeds": 0}, "finalists.seeds"),
        ({"resources.cpus": 0}, "resources.cpus"),
        ({"resources.gpus": 1.5}, "resources.gpus"),
        ({"recipe": "digitz"}, "RECIPE"),
    ],
)
def test_a_bad_override_names_its_field(overrides: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        load_sweep("digits", overrides)
    assert caught.value.field == field


def test_macro_f1_is_searched_for_upwards_and_monitored_by_every_trial() -> None:
    sweep = load_sweep("digits", {"objective.metric": "val/macro_f1"})
    assert sweep.config.objective.direction == "maximize"
    assert sweep.trial_config({}, 0).trainer.monitor == "val/macro_f1"


def test_a_recipe_without_a_space_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("recipe: digits\n")
    with pytest.raises(InputError, match=r"^space: is missing"):
        load_sweep(str(recipe))


def test_every_trial_has_a_seed_of_its_own_and_a_thread_to_itself() -> None:
    sweep = load_sweep("digits")
    seeds = [sweep.seed("trial", slot) for slot in range(20)] + [sweep.seed("finalist", i) for i in range(5)]
    assert len(set(seeds)) == 25
    config = sweep.trial_config({"optimizer.lr": 0.5}, seeds[0])
    assert (config.seed, config.optimizer.lr, config.trainer.threads) == (seeds[0], 0.5, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget.trials", 10**6 + 1),
        ("budget.hours", 1e300),
        ("finalists.seeds", 10_001),
        ("finalists.top", 10**20),
        ("retries", 1001),
        ("sampler.candidates", 10**5 + 1),
        ("pruner.startup_trials", 10**9 + 1),
        ("constraints.parameters", 10**400),
    ],
)
def test_numbers_have_upper_bounds(field: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^{field}: must be .*at most [0-9,]+(, or null)? \(got"):
        load_sweep("digits", {field: value})


@pytest.mark.parametrize("name", ["x" * 251, "a\0", "\ud800"])
def test_databases_can_hold_the_name_of_a_sweep(name: str) -> None:
    with pytest.raises(InputError, match=r"^--name: (has 251 characters, more than 250|is not Unicode text)"):
        load_sweep("digits", name=name)
