"""The typed configuration of one run. Its values are checked when it is created."""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveFloat

from experiments.recipe import build, find_recipe, read_recipe, with_overrides
from lightning_modules import DataConfig, InputError, ModelConfig, OptimizerConfig
from lightning_modules.config import Count, Seed, Share, section
from lightning_modules.errors import choose_from
from lightning_modules.metrics import Metric, find_metric, monitors, own_metrics, sign_of
from lightning_modules.plug import Plug, search_folders

RECIPES = Path(__file__).parent / "recipes"
_FILES = {"data.path", "data.labels_path", "data.groups", "model.weights"}  # fields that name the user's files
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
    monitor: str = "val/accuracy"  # the logged metric that is the run's value and decides which epoch is `best`
    monitor_mode: Literal["min", "max"] | None = None  # whether lower or higher is better; null: as the metric says
    # more metrics: dotted paths, or {kind: path, args: {…}, name: its logged name}; see lightning_modules/metrics.py
    metrics: list[str | dict[str, Any]] = field(default_factory=list)
    # Lightning callbacks: dotted paths, or {kind: path, args: {…}}
    callbacks: list[str | dict[str, Any]] = field(default_factory=list)
    accelerator: Accelerator = "auto"
    # CPU threads; null: all cores for one run, one for a sweep's trial
    threads: Annotated[int, Field(ge=1, examples=[1])] | None = None
    precision: Precision = "32-true"  # 32-true, 64-true, or autocast: bf16-mixed, 16-mixed
    matmul_precision: MatmulPrecision = "highest"  # for float32 products: high allows TF32, medium bfloat16
    exact: bool = False  # same numbers with any number of threads, on one CPU model; slower (benchmarks/results.md)
    compile: Compile = "none"  # torch.compile of the network; cuda_graphs: launches the kernels of a step as one graph
    # Arguments of Lightning's Trainer, under its own names.
    accumulate_grad_batches: Count = 1
    gradient_clip_val: PositiveFloat | None = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    limit_train_batches: Count | Share | None = None
    limit_val_batches: Count | Share | None = None
    limit_test_batches: Count | Share | None = None
    detect_anomaly: bool = False

    def __post_init__(self) -> None:
        own = {f"val/{metric.name}": metric for metric in own_metrics(self.metrics)}
        for plug in self._plugs():
            plug.check()
        known = find_metric(self.monitor) or own.get(self.monitor)
        if self.monitor.startswith("test/") or (known is None and self.monitor_mode is None):
            remedy = (
                f"{choose_from(self.monitor, [*monitors(), *own])}, or say by monitor_mode which direction is better"
            )
            raise InputError("trainer.monitor", self.monitor, "no such metric on val", remedy)
        if known is None or known.sign == 0:
            if self.monitor_mode is None:
                message = f"is missing: whether more {self.monitor} is better is not known"
                raise InputError("trainer.monitor_mode", None, message, "write min or max")
        elif self.monitor_mode not in (None, right := "max" if known.sign > 0 else "min"):
            message = f"does not fit {self.monitor}"
            raise InputError("trainer.monitor_mode", self.monitor_mode, message, f"write {right}, or leave it out")
        elif self.monitor in own:  # recorded, for those who read the run without the metric's code
            object.__setattr__(self, "monitor_mode", right)

    @property
    def sign(self) -> int:
        """1 if higher values of the monitored metric are better, -1 if lower values are."""
        return {"max": 1, "min": -1, None: sign_of(self.monitor)}[self.monitor_mode]

    def own_metrics(self) -> list[Metric]:
        return own_metrics(self.metrics)

    def make_callbacks(self) -> list[Any]:
        """Returns new instances of the callbacks. Raises InputError if one is no callback of Lightning."""
        from pytorch_lightning import Callback

        made = [(plug, plug.make()) for plug in self._plugs()]
        for plug, callback in made:
            if not isinstance(callback, Callback):
                remedy = "name a pytorch_lightning.Callback"
                raise InputError(
                    plug.field, plug.path, f"makes {type(callback).__name__}, which is no callback", remedy
                )
        return [callback for _, callback in made]

    def _plugs(self) -> list[Plug]:
        return [Plug.parse(f"trainer.callbacks[{index}]", entry) for index, entry in enumerate(self.callbacks)]


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
    """Returns the configuration of a recipe (a path, or the name of a built-in one), with the overrides applied.

    Files that the recipe names are looked for beside it first, then in the working directory.
    """
    path = find_recipe(recipe, RECIPES)
    search_folders([path.parent])
    tree = read_recipe(path)
    beside = {name: found for name, value in flatten(tree).items() if (found := _beside(path.parent, name, value))}
    return build(ExperimentConfig, with_overrides(tree, beside | dict(overrides or {})))


def _beside(folder: Path, name: str, value: Any) -> str | None:
    """Returns the absolute path of a file or folder that a recipe names and that lies beside it."""
    if name not in _FILES or not isinstance(value, str):
        return None
    found = folder.resolve() / value
    return str(found) if found.exists() else None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested fields under dotted paths. An empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
