"""The typed configuration of one run. Its values are checked when it is created."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, PositiveFloat

from experiments.code.loading import watch
from experiments.code.portable import located, portable
from experiments.lightning_arguments import REFUSED
from experiments.names import EXPERIMENT, check_name
from experiments.process.redaction import urls_without_credentials
from experiments.recipe import Tree, build, field_paths, find_recipe, read_recipe, unknown_field, with_overrides
from lightning_modules import DataConfig, InputError, ModelConfig, OptimizerConfig
from lightning_modules.checked_path import checked_path
from lightning_modules.config import Count, Epochs, Seed, Share, section
from lightning_modules.errors import choose_from
from lightning_modules.metrics import Metric, find_metric, monitors, own_metrics, sign_of
from lightning_modules.plug import Plug, search_folders

RECIPES = Path(__file__).parent / "recipes"
# Fields that say where data are stored. Runs are not compared by them: a digest shows whether the data are the same.
LOCATIONS = {"data.root", "data.path", "data.labels_path", "data.groups"}
# Fields that a resumed run may change: its numbers do not depend on them, but for the last digits on a GPU. If no epoch
# was done yet, `config.yaml` then has the new value, and the param keeps the first one.
MAY_CHANGE = LOCATIONS | {"trainer.steps_per_execution"}
# Fields that have no effect on numbers. A run is not said to differ from another one by them.
NOT_COMPARED = LOCATIONS | {"trainer.keep_checkpoints"}
_FILES = LOCATIONS | {"model.weights"}  # fields that name the user's files and folders
Weights = Literal["last", "best"]
KeepCheckpoints = Literal["none", "kept", "all"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
MatmulPrecision = Literal["highest", "high", "medium"]
Compile = Literal["none", "default", "cuda_graphs"]
Strategy = Literal[
    "auto",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
    "fsdp",
    "fsdp_cpu_offload",
    "deepspeed",
    "deepspeed_stage_1",
    "deepspeed_stage_1_offload",
    "deepspeed_stage_2",
    "deepspeed_stage_2_offload",
    "deepspeed_stage_3",
    "deepspeed_stage_3_offload",
    "deepspeed_stage_3_offload_nvme",
]


@section("trainer")
class TrainerConfig:
    """How long a run trains, which weights it uses at the end, and on what hardware it runs."""

    max_epochs: Epochs = 10
    """How many epochs the run trains."""

    weights: Weights = "last"
    """The epoch whose weights give the run's value, test metrics and logged model."""

    keep_checkpoints: KeepCheckpoints = "kept"
    """The checkpoints that a finished run keeps: none, the one that `weights` names (kept), or all.

    A sweep's trial keeps none once the sweep has its finalists, unless this is all; a finalist keeps the one that its
    test needs. An unfinished run keeps what it needs to be resumed.
    """

    monitor: str = "val/accuracy"
    """The logged metric that is the run's value and decides which epoch is `best`."""

    monitor_mode: Literal["min", "max"] | None = None
    """Whether lower or higher values of `monitor` are better; null: as the metric says."""

    metrics: list[str | dict[str, Any]] = field(default_factory=list)
    """More metrics: dotted paths, or {kind: path, args: {…}, name: logged name} (lightning_modules/metrics.py)."""

    callbacks: list[str | dict[str, Any]] = field(default_factory=list)
    """Lightning callbacks: dotted paths, or {kind: path, args: {…}}."""

    accelerator: Accelerator = "auto"
    """The hardware that trains; auto: a GPU if there is one."""

    threads: Annotated[int, Field(ge=1, le=1024, examples=[1])] | None = None
    """CPU threads of each process; null: all cores for one run, one for a sweep's trial."""

    precision: Precision = "32-true"
    """32-true, 64-true, or autocast: bf16-mixed, 16-mixed."""

    matmul_precision: MatmulPrecision = "highest"
    """The precision of float32 products: high allows TF32, medium bfloat16."""

    exact: bool = False
    """Same numbers with any number of threads, on one CPU model; slower (benchmarks/results.md)."""

    compile: Compile = "none"
    """torch.compile of the network; cuda_graphs: launches the kernels of a step as one graph (docs/gpu.md)."""

    steps_per_execution: Count | Literal["auto"] = "auto"
    """Steps that Lightning's loop executes at once, as Keras calls it; faster, with the same numbers.

    On a GPU such steps are captured as one CUDA graph, and may differ from single ones in the last digits.
    """

    # From here on: arguments of Lightning's Trainer, under its own names.
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Devices of each machine that train the run together: GPUs, or processes on the CPU (docs/at_scale.md)."""

    num_nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Machines that train the run together, started by torchrun or Slurm."""

    strategy: Strategy = "auto"
    """How several devices train together; auto: ddp. The sharded ones of fsdp and deepspeed are not tested here."""

    sync_batchnorm: bool = False
    """Batch norm over the images of all GPUs, instead of each GPU's part of the batch."""

    accumulate_grad_batches: Count = 1
    """Batches whose gradients are added up for one step of the optimizer."""

    gradient_clip_val: PositiveFloat | None = None
    """The largest gradient; null: no clipping."""

    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    """Clips the norm of all gradients, or each value; null: norm."""

    limit_train_batches: Count | Share | None = None
    """Train batches per epoch: a number, or a share of all; null: all."""

    limit_val_batches: Count | Share | None = None
    """Val batches: a number, or a share of all; null: all."""

    limit_test_batches: Count | Share | None = None
    """Test batches: a number, or a share of all; null: all."""

    detect_anomaly: bool = False
    """Finds the operation whose gradient is NaN; slow."""

    min_epochs: Epochs | None = None
    """Epochs that the run trains even if a callback would stop it earlier."""

    log_every_n_steps: Count | None = None
    """How often what callbacks and modules log within an epoch is kept; null: every 50 steps."""

    benchmark: bool | None = None
    """Lets cuDNN choose the fastest algorithms, which may differ from run to run; null: false."""

    inference_mode: bool | None = None
    """How gradients are switched off in validation; false for a module that needs them there; null: true."""

    reload_dataloaders_every_n_epochs: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Asks the data module for new loaders so often; null: never."""

    profiler: Literal["simple", "advanced"] | None = None
    """Lightning's profiler, whose report becomes an artifact."""

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
    def processes(self) -> int:
        """How many processes train the run, one on each device."""
        return self.devices * self.num_nodes

    @property
    def sign(self) -> int:
        """1 if higher values of the monitored metric are better, -1 if lower values are."""
        return {"max": 1, "min": -1, None: sign_of(self.monitor)}[self.monitor_mode]

    def best_epoch(self, history: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
        """Returns the scores of the epoch with the best `monitor`, the first of equals; None if no epoch has it."""
        measured = [scores for scores in history if math.isfinite(scores.get(self.monitor, math.nan))]
        return max(measured, key=lambda scores: self.sign * scores[self.monitor], default=None)

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

    experiment: str = "workbench"
    """The MLflow experiment that the run belongs to."""

    seed: Seed = 0
    """Initial weights, batch order, augmentation, dropout."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    REFUSED: ClassVar[Mapping[str, str]] = {f"trainer.{name}": why for name, why in REFUSED.items()}

    def __post_init__(self) -> None:
        if not self.experiment.strip():
            raise InputError("experiment", self.experiment, "must not be empty", "name the MLflow experiment")
        check_name("experiment", self.experiment, EXPERIMENT)
        self._check_modules()
        self._check_devices()
        if self.model.class_weights == self.data.sampling == "balanced":
            message = "data.sampling is balanced too, so rare classes would count twice"
            raise InputError("model.class_weights", "balanced", message, "leave one of the two out")

    def _check_modules(self) -> None:
        """Raises InputError if a module of the user's own stands beside settings that have no effect on it."""
        if self.model.module is None:
            if self.data.module is not None:
                remedy = "name a LightningModule that reads its batches"
                raise InputError("model.module", None, "is missing beside data.module", remedy)
            return
        without_effect = {"optimizer": (self.optimizer, None), "trainer": (self.trainer, {"metrics", "compile"})}
        for part, (config, names) in without_effect.items():
            for name, value in vars(config).items():
                if (names is None or name in names) and value != getattr(type(config)(), name):
                    message, remedy = "has no effect beside model.module", "leave it out: the module decides it"
                    raise InputError(f"{part}.{name}", value, message, remedy)

    def _check_devices(self) -> None:
        """Raises InputError if several devices cannot share what this configuration trains."""
        processes = self.trainer.processes
        if processes == 1:
            return
        name = "devices" if self.trainer.devices > 1 else "num_nodes"
        value = getattr(self.trainer, name)
        if self.model.module is not None:
            message = "a module of your own trains on one device: what it logs would be of a part of the data alone"
            raise InputError(f"trainer.{name}", value, message, "write 1, or use a network of your own: model.network")
        if self.data.batch_size != "full" and self.data.batch_size < processes:
            message = f"is fewer images than the {processes} devices that share each batch"
            raise InputError("data.batch_size", self.data.batch_size, message, f"write {processes} or more")

    def tree(self) -> dict[str, Any]:
        """Returns all fields, nested as in a recipe."""
        return dataclasses.asdict(self)

    def as_recorded(self) -> dict[str, Any]:
        """Returns all fields as records hold them: with paths that are valid on another machine, where possible.

        Without the credentials in URLs.
        """
        tree = self.tree()
        flat = flatten(tree)
        tree = with_overrides(tree, {name: portable(flat[name]) for name in _FILES if _is_path(flat[name])})
        if self.model.module is not None:  # the fields that it replaces would mislead
            tree["model"] = {name: tree["model"][name] for name in ("module", "module_args")}
            del tree["optimizer"]
        if self.data.module is not None:
            tree["data"] = {name: tree["data"][name] for name in ("module", "module_args", "split_seed")}
        return urls_without_credentials(tree)

    def to_yaml(self) -> str:
        """Returns a complete recipe of this run."""
        return yaml.safe_dump(self.as_recorded(), sort_keys=False, allow_unicode=True)

    def data_paths(self) -> tuple[Path, ...]:
        """Returns the files and folders of the data."""
        flat = flatten(self.tree())
        named = [flat[name] for name in sorted(LOCATIONS)] + [os.environ.get("WORKBENCH_DATA")]
        return tuple(Path(path).expanduser().absolute() for path in named if path)

    def with_overrides(self, overrides: Mapping[str, Any]) -> "ExperimentConfig":
        """Returns the same configuration with other values at some dotted paths."""
        return build(ExperimentConfig, with_overrides(self.tree(), overrides))


def load_config(recipe: str, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Returns the configuration of a recipe (a path, or the name of a built-in one), with the overrides applied.

    Files that the recipe names are looked for beside it, then in the working directory, then in the project; those of
    the overrides in the working directory.
    """
    watch()  # before it imports the user's own modules
    path = find_recipe(recipe, RECIPES)
    search_folders([path.parent])
    tree = with_located_files(read_recipe(path), [path.parent.resolve(), Path.cwd()])
    return build(ExperimentConfig, with_overrides(tree, located_overrides(overrides or {}, [Path.cwd()])))


def located_overrides(overrides: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Returns the overrides with absolute paths of files, as `with_located_files` does for fields."""
    found = flatten(with_located_files(with_overrides({}, overrides), folders))
    return {path: found.get(path, value) for path, value in overrides.items()}


def with_located_files(tree: Mapping[str, Any], folders: Sequence[Path], *, is_recorded: bool = False) -> Tree:
    """Returns the fields with absolute paths of files: those in `folders`, or as `as_recorded` has written them.

    Data that do not exist get the path in the first folder or, if `is_recorded`, the path as it was written.
    """
    named = {name: value for name, value in flatten(tree).items() if name in _FILES and isinstance(value, str)}
    users = {name: checked_path(name, value).expanduser() for name, value in named.items()}
    places = {name: [*(folder / path for folder in folders), located(named[name])] for name, path in users.items()}
    found = {name: next(filter(Path.exists, paths), None) for name, paths in places.items()}
    default = -1 if is_recorded else 0
    found |= {name: places[name][default] for name, path in found.items() if path is None and name in LOCATIONS}
    return with_overrides(tree, {name: str(path) for name, path in found.items() if path is not None})


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute()


def check_paths(overrides: Mapping[str, Any]) -> None:
    """Raises InputError if a dotted path leads to no field of an experiment."""
    known = [path for path, _ in field_paths(ExperimentConfig)]
    for path, value in overrides.items():
        if not any(path == each or path.startswith(f"{each}.") for each in known):
            raise unknown_field(ExperimentConfig, path, value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested fields under dotted paths. An empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
