"""The typed configuration of one run. Its values are checked when it is created."""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from experiments.recipe import build, find_recipe, read_recipe, with_overrides
from lightning_modules import DataConfig, InputError, ModelConfig, OptimizerConfig
from lightning_modules.config import Count, Seed, section
from lightning_modules.errors import check_choice
from lightning_modules.metrics import monitors

RECIPES = Path(__file__).parent / "recipes"
Weights = Literal["last", "best"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
MatmulPrecision = Literal["highest", "high", "medium"]
Compile = Literal["none", "default", "cuda_graphs"]


@section("trainer")
class TrainerConfig:
    """How long a run trains, which weights it uses at the end, and on what hardware it runs."""

    max_epochs: Count = 10
    weights: Weights = "last"  # the epoch whose weights give the run's value, test metrics and logged model
    monitor: str = "val/accuracy"  # the val metric that is the run's value and decides which epoch is `best`
    accelerator: Accelerator = "auto"
    # CPU threads; null: all cores for one run, one for a sweep's trial
    threads: Annotated[int, Field(ge=1, examples=[1])] | None = None
    precision: Precision = "32-true"  # 32-true, 64-true, or autocast: bf16-mixed, 16-mixed
    matmul_precision: MatmulPrecision = "highest"  # for float32 products: high allows TF32, medium bfloat16
    exact: bool = False  # same numbers with any number of threads, on one CPU model; slower (benchmarks/results.md)
    compile: Compile = "none"  # torch.compile of the network; cuda_graphs: launches the kernels of a step as one graph

    def __post_init__(self) -> None:
        check_choice("trainer.monitor", self.monitor, monitors())


@section()
class ExperimentConfig:
    """Everything that determines one run. `data`, `model` and `optimizer` are declared beside their code."""

    experiment: str = "workbench"  # the MLflow experiment that the run belongs to
    seed: Seed = 0  # initial weights, batch order, augmentation, dropout
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        if not self.experiment.strip():
            raise InputError("experiment", self.experiment, "must not be empty", "name the MLflow experiment")
        if self.model.class_weights == self.data.sampling == "balanced":
            message = "data.sampling is balanced too, so rare classes would count twice"
            raise InputError("model.class_weights", "balanced", message, "leave one of the two out")

    def tree(self) -> dict[str, Any]:
        """Returns all fields, nested as in a recipe."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        """Returns a complete recipe of this run."""
        return yaml.safe_dump(self.tree(), sort_keys=False, allow_unicode=True)

    def with_overrides(self, overrides: Mapping[str, Any]) -> "ExperimentConfig":
        """Returns the same configuration with other values at some dotted paths."""
        return build(ExperimentConfig, with_overrides(self.tree(), overrides))


def load_config(recipe: str, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Returns the configuration of a recipe (a path, or the name of a built-in one), with the overrides applied."""
    return build(ExperimentConfig, with_overrides(read_recipe(find_recipe(recipe, RECIPES)), overrides or {}))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested fields under dotted paths. An empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
