"""The configuration of a sweep, typed and checked before its first trial."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from experiments.config import ExperimentConfig, Metric, flatten, load_config, sign_of
from experiments.recipe import build, field_paths, find_recipe, read_recipe, with_overrides
from lightning_modules import InputError
from lightning_modules.errors import choose_from
from sweeps.space import SearchSpace

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a trial is scored by: a metric on the validation split, under the weights that `trainer.weights` keeps."""

    metric: Metric = "val/accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"

    def __post_init__(self) -> None:
        right = "maximize" if sign_of(self.metric) > 0 else "minimize"
        if self.direction != right:
            raise InputError("objective.direction", self.direction, f"does not fit {self.metric}", f"write {right}")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """When the sweep has searched enough."""

    trials: int = 20  # in total, over all starts: trials that completed, were pruned, or failed by their own doing

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError("budget.trials", self.trials, "must be 1 or more", "try 20")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Who proposes the next point: Optuna's TPESampler or RandomSampler."""

    kind: Literal["tpe", "random"] = "tpe"


@dataclass(frozen=True, kw_only=True)
class PrunerConfig:
    """Who stops a trial early: Optuna's MedianPruner, or nobody."""

    kind: Literal["median", "none"] = "median"
    startup_trials: int = 5  # complete trials before the first may be pruned
    warmup_epochs: int = 1  # epochs that every trial may run

    def __post_init__(self) -> None:
        for name in ("startup_trials", "warmup_epochs"):
            if getattr(self, name) < 0:
                raise InputError(f"pruner.{name}", getattr(self, name), "must be 0 or more", "try 5")


@dataclass(frozen=True, kw_only=True)
class FinalistsConfig:
    """The `top` configurations run again, each over `seeds` fresh seeds; the best mean is the champion."""

    top: int = 1
    seeds: int = 1

    def __post_init__(self) -> None:
        for name in ("top", "seeds"):
            if getattr(self, name) < 1:
                raise InputError(f"finalists.{name}", getattr(self, name), "must be 1 or more", "try 1")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep recipe: the experiment recipe it varies, how, and how long."""

    recipe: str  # an experiment recipe: a name or a path
    overrides: dict[str, Any] = field(default_factory=dict)  # dotted fields of the recipe, fixed for all trials
    space: dict[str, Any]  # dotted fields of the recipe, each with a range or choices (sweeps/space.py)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    finalists: FinalistsConfig = field(default_factory=FinalistsConfig)
    retries: int = 2  # how often a trial whose process died is tried again before its slot gets a new one

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise InputError("retries", self.retries, "must be 0 or more", "try 2")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep ready to run: its name, its settings, the configuration that its trials share, and the search space."""

    name: str
    config: SweepConfig
    base: ExperimentConfig
    space: SearchSpace

    def seed(self, role: str, index: int) -> int:
        """A seed of its own for every slot (`trial`) and finalist; the same whenever and wherever the sweep runs."""
        digest = hashlib.sha256(f"{self.base.seed} {role} {index}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def trial_config(self, params: Mapping[str, Any], seed: int) -> ExperimentConfig:
        """The configuration of one trial: one thread, unless the recipe says otherwise."""
        fixed = {
            "seed": seed,
            "trainer.threads": self.base.trainer.threads or 1,
            "trainer.monitor": self.config.objective.metric,
        }
        return self.base.with_overrides(dict(params) | fixed)

    def config_tree(self) -> dict[str, Any]:
        """The sweep's settings as a complete recipe, nested; the experiment's fields are all under `overrides`."""
        return asdict(self.config) | {"overrides": flatten(self.base.tree())}

    def identity(self) -> dict[str, Any]:
        """What must stay as it is when the sweep is continued: all that decides what its trials' values mean."""
        base = {name: value for name, value in flatten(self.base.tree()).items() if name != "data.root"}
        return (
            base | {f"space.{path}": value for path, value in self.config.space.items()} | vars(self.config.objective)
        )


def load_sweep(recipe: str, overrides: Mapping[str, Any] | None = None, *, name: str | None = None) -> Sweep:
    """Reads a sweep recipe (a path or a bare name) and its experiment recipe, and checks every corner of the space.

    `overrides` are dotted paths, looked up among the sweep's fields first, then the recipe's; `space` takes none.
    """
    path = find_recipe(recipe, RECIPES)
    sweep_fields, recipe_fields = dict(field_paths(SweepConfig)), dict(field_paths(ExperimentConfig))
    for_sweep: dict[str, Any] = {}
    for_recipe: dict[str, Any] = {}
    for field_path, value in (overrides or {}).items():
        root = field_path.partition(".")[0]
        if root == "space":
            raise InputError(field_path, value, "a sweep's space takes no overrides", "copy the recipe and edit it")
        if root in sweep_fields:
            for_sweep[field_path] = value
        elif root in recipe_fields:
            for_recipe[field_path] = value
        else:
            raise InputError(field_path, value, "no such field", choose_from(field_path, sweep_fields | recipe_fields))
    tree = read_recipe(path)
    for required in ("recipe", "space"):
        if not tree.get(required):
            remedy = "see sweeps/recipes for examples; an experiment recipe is run by: workbench train"
            raise InputError(required, None, f"is missing in the sweep recipe {path}", remedy)
    config = build(SweepConfig, with_overrides(tree, for_sweep))
    if (beside := path.parent / config.recipe).is_file():
        config = replace(config, recipe=str(beside.resolve()))
    base = load_config(config.recipe, config.overrides | for_recipe)
    return Sweep(name=name or path.stem, config=config, base=base, space=SearchSpace.parse(config.space, base))
