"""The typed configuration of a sweep. It is checked before the first trial."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from experiments.code.loading import watch
from experiments.config import LOCATIONS, ExperimentConfig, flatten, load_config, located_overrides
from experiments.names import check_name
from experiments.process.redaction import know, urls_without_credentials, without_credentials
from experiments.recipe import build, field_paths, find_recipe, read_recipe, which_field, with_overrides
from lightning_modules import InputError
from lightning_modules.checked_path import checked_path
from lightning_modules.config import section
from lightning_modules.errors import choose_from
from lightning_modules.metrics import METRICS, Direction, Metric, find_metric, on_test
from lightning_modules.plug import search_folders
from sweeps.strategy.budget import BudgetConfig
from sweeps.strategy.limits import ConstraintsConfig
from sweeps.strategy.pruners import PrunerConfig, check_pruner
from sweeps.strategy.question import Arm, QuestionConfig, arms_of, check_budget, shown_space
from sweeps.strategy.samplers import SamplerConfig, check_sampler
from sweeps.strategy.space import SearchSpace
from sweeps.strategy.start import StartConfig

RECIPES = Path(__file__).parent / "recipes"
Seeds = Literal["per_trial", "shared"]
BEFORE_SEEDS: Seeds = "per_trial"  # of sweeps that were started before there was a choice
_NEW_SEEDS: Seeds = "per_trial"


@section("objective")
class ObjectiveConfig:
    """The score of a trial: a metric on the validation split, with the weights that `trainer.weights` chooses.

    It is a metric of lightning_modules/metrics.py, or one that the recipe lists in `trainer.metrics`.
    """

    metric: str = "val/accuracy"
    """The metric that is a trial's score."""

    direction: Direction = "maximize"
    """Whether higher or lower scores are better."""

    def check(self, own: Sequence[Metric], *, logs_any: bool) -> None:
        """Raises InputError if there is no such metric, or if it has the other direction.

        `own`: the recipe's own metrics. `logs_any`: whether a module of the user's own logs whatever it wants.
        """
        known = {f"val/{metric.name}": metric for metric in (*METRICS.values(), *own)}
        if self.metric not in known and logs_any:
            return
        if self.metric not in known:
            remedy = f"{choose_from(self.metric, known)}, or list it in trainer.metrics of the recipe"
            raise InputError("objective.metric", self.metric, "no such metric", remedy)
        if self.direction != (right := known[self.metric].direction or self.direction):
            raise InputError("objective.direction", self.direction, f"does not fit {self.metric}", f"write {right}")

    @property
    def sign(self) -> int:
        """1 if higher values are better, -1 if lower values are."""
        return 1 if self.direction == "maximize" else -1


@section("finalists")
class FinalistsConfig:
    """Runs the `top` configurations again, each with `seeds` new seeds. The one with the best mean is the champion.

    With `baseline`, the recipe's own settings also run with these seeds. If no finalist has a better mean, they are the
    champion: the search brought no gain.
    """

    top: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many of the best configurations run again."""

    seeds: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many new seeds each of them gets."""

    baseline: bool = False
    """Also runs the recipe's own settings with these seeds."""


@section("resources")
class ResourcesConfig:
    """What one trial requests. Fractions are allowed: with 0.5 GPUs, two trials share one.

    A trial on several GPUs (`trainer.devices`) requests all of them. Worker processes of one machine each see the GPUs
    that their trial requests; with 0, all of them see all. A trial trains on `trainer.threads` threads, whatever it
    requests.
    """

    cpus: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """CPUs of one trial; only a Ray cluster places trials by it."""

    gpus: Annotated[float, Field(ge=0, le=1024, examples=[1])] = 0.0
    """GPUs of one trial: a share of one, or a whole number."""

    def __post_init__(self) -> None:
        if self.gpus > 1 and not self.gpus.is_integer():
            remedy = f"write {int(self.gpus) + 1}"
            raise InputError("resources.gpus", self.gpus, "several GPUs are whole ones", remedy)


@section()
class SweepConfig:
    """A sweep recipe: the experiment recipe, how its fields vary, and how long the sweep searches."""

    recipe: str
    """The experiment recipe: a name or a path."""

    overrides: dict[str, Any] = field(default_factory=dict)
    """Dotted fields of the recipe, with the values that they have in all trials."""

    space: dict[str, Any]
    """Dotted fields of the recipe, each with a range or choices (sweeps/strategy/space.py)."""

    question: QuestionConfig = field(default_factory=QuestionConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    constraints: ConstraintsConfig = field(default_factory=ConstraintsConfig)
    start: StartConfig = field(default_factory=StartConfig)
    finalists: FinalistsConfig = field(default_factory=FinalistsConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)

    seeds: Seeds | None = None
    """shared: all trials have the same initial weights, order of images and augmentation; null: per_trial.

    So the difference between two settings is less noisy (docs/sweeps.md). Finalists have new seeds with either.
    """

    storage: str | None = None
    """postgresql://…, for workers on several machines; null: optuna.db in the store."""

    retries: Annotated[int, Field(ge=0, le=1000)] = 2
    """How often a trial whose process died runs again before its slot gets a new trial."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep that is ready to run: its name, its settings, the configuration of all its trials, and the space."""

    name: str
    config: SweepConfig
    base: ExperimentConfig
    space: SearchSpace  # with a question, it contains the spaces of all arms, from which trials are drawn
    compared: tuple[Arm, ...] = ()  # the arms of its question, those of all repeats

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Its searches: one for each arm of its question; without a question a single one."""
        return self.compared or (Arm(space=self.space),)

    @property
    def has_question(self) -> bool:
        return bool(self.compared)

    @property
    def target(self) -> int | None:
        """The number of trials of all arms and repeats; None if only time or lack of improvement ends the search."""
        target = self.config.budget.target
        return None if target is None else target * self.config.question.repeats

    @property
    def budget_of_arm(self) -> BudgetConfig:
        """The budget of each of its searches."""
        target = self.target
        if not self.has_question or target is None:
            return self.config.budget
        return BudgetConfig(trials=target // len(self.arms))

    @property
    def decisive_metric(self) -> str:
        """The metric of the scores that decide its question: the objective's, or the same on test."""
        metric = self.config.objective.metric
        return on_test(metric) or metric if self.config.question.decide == "test" else metric

    @property
    def finalist_slots(self) -> int:
        """The number of runs of all finalists, if each search has as many configurations as run again."""
        finalists = self.config.finalists
        return (finalists.top * len(self.arms) + finalists.baseline) * finalists.seeds

    def max_epochs(self, arm: Arm) -> int:
        """Returns the number of epochs of the longest trial of one of its searches."""
        searched = [parameter for parameter in arm.space.parameters if parameter.path == "trainer.max_epochs"]
        values = searched[0].corners() if searched else (self.base.trainer.max_epochs,)
        return max(value for value in values if isinstance(value, int))

    def seed(self, role: str, index: int) -> int:
        """Returns the seed of one slot (`trial`) or finalist. It is the same whenever and wherever the sweep runs."""
        digest = hashlib.sha256(f"{self.base.seed} {role} {index}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def trial_seed(self, arm: Arm, slot: int) -> int:
        """Returns the seed of a slot's trial, which all trials of a repeat share if the sweep says so."""
        return self.seed(arm.role("trials"), 0) if self.config.seeds == "shared" else self.seed(arm.role("trial"), slot)

    def with_seeds(self, begun: Mapping[str, Any] | None) -> "Sweep":
        """Returns the sweep with `seeds` chosen, if its recipe leaves them out: as it was begun, or as new ones are.

        `begun`: the identity that it was started with, if it was.
        """
        default = _NEW_SEEDS if begun is None else begun.get("seeds", BEFORE_SEEDS)
        return replace(self, config=replace(self.config, seeds=self.config.seeds or default))

    def trial_config(self, params: Mapping[str, Any], seed: int) -> ExperimentConfig:
        """Returns the configuration of one trial, with one thread unless the recipe sets another number."""
        fixed = {
            "seed": seed,
            "trainer.threads": self.base.trainer.threads or 1,
            "trainer.monitor": self.config.objective.metric,
            "trainer.monitor_mode": None if find_metric(self.config.objective.metric) else self._mode,
        }
        return self.base.with_overrides(dict(params) | fixed)

    @property
    def _mode(self) -> str:
        return "max" if self.config.objective.sign > 0 else "min"

    def config_tree(self) -> dict[str, Any]:
        """Returns the sweep's settings as a complete nested recipe. All fields of the experiment are in `overrides`."""
        storage = self.config.storage and without_credentials(self.config.storage)
        tree = asdict(self.config) | {"overrides": flatten(self.base.as_recorded()), "storage": storage}
        return urls_without_credentials(tree)

    def identity(self) -> dict[str, Any]:
        """Returns the settings that must stay the same when the sweep is continued.

        They decide what the values of its trials mean: the recipe, the data, the space, the objective, and the
        constraints, because with other constraints another trial would be the best. The warm start must stay too: a new
        one would come too late. Sampler, pruner, budget, finalists and retries may change: they decide which points are
        tried, how long and how many, but not what existing values mean.
        """
        fields = flatten(urls_without_credentials(self.base.tree()))
        base = {name: value for name, value in fields.items() if name not in LOCATIONS}
        space = {f"space.{path}": value for path, value in self.config.space.items()}
        limits = {f"constraints.{name}": limit for name, limit in vars(self.config.constraints).items() if limit}
        start = self.config.start
        warm = {"start.points": start.points, "start.sweep": start.sweep, "start.top": start.sweep and start.top}
        given = {name: value for name, value in warm.items() if value} | {"seeds": self.config.seeds}
        return base | space | vars(self.config.objective) | limits | given | self.config.question.identity()


def load_sweep(recipe: str, overrides: Mapping[str, Any] | None = None, *, name: str | None = None) -> Sweep:
    """Reads a sweep recipe (a path or a bare name) and its experiment recipe, and checks the corners of the space.

    `overrides` have dotted paths to fields of the sweep or else of the recipe. They cannot change the `space`. Files
    that the sweep recipe names are looked for beside it first.
    """
    watch()  # before it imports the user's own modules
    path = find_recipe(recipe, RECIPES)
    search_folders([path.parent])
    sweep_fields, recipe_fields = dict(field_paths(SweepConfig)), dict(field_paths(ExperimentConfig))
    for_sweep: dict[str, Any] = {}
    for_recipe: dict[str, Any] = {}
    for field_path, value in (overrides or {}).items():
        root = field_path.partition(".")[0]
        if root == "space":
            raise InputError(field_path, value, "a sweep's space cannot be overridden", "copy the recipe and edit it")
        if root in sweep_fields:
            for_sweep[field_path] = value
        elif root in recipe_fields:
            for_recipe[field_path] = value
        else:
            raise InputError(field_path, value, "no such field", which_field(field_path, sweep_fields | recipe_fields))
    tree = read_recipe(path)
    asks = bool(tree.get("question")) or any(path.partition(".")[0] == "question" for path in for_sweep)
    for required in ("recipe", "space"):
        if not tree.get(required) and not (required == "space" and asks):
            remedy = "see sweeps/recipes for examples; run an experiment recipe with: workbench train"
            raise InputError(required, None, f"is missing in the sweep recipe {path}", remedy)
    tree = {"space": {}} | with_overrides(tree, for_sweep)
    know(str(tree.get("storage")))
    config = build(SweepConfig, tree)
    if (beside := path.parent / checked_path("recipe", config.recipe)).is_file():
        config = replace(config, recipe=str(beside.resolve()))
    config = replace(config, overrides=located_overrides(config.overrides, [path.parent.resolve(), Path.cwd()]))
    base = load_config(config.recipe, config.overrides | for_recipe)
    name = check_name("--name", name or path.stem)
    if config.question.is_given:
        compared = arms_of(config.question, config.space, base)
        sweep = Sweep(
            name=name, config=config, base=base, space=shown_space(compared, flatten(base.tree())), compared=compared
        )
        _check_question(sweep)
    else:
        sweep = Sweep(name=name, config=config, base=base, space=SearchSpace.parse(config.space, base))
    _check_search(sweep)
    return sweep


def _check_question(sweep: Sweep) -> None:
    """Raises InputError if the sweep cannot give every arm of its question the same chance, or has no answer."""
    config = sweep.config
    arms = len(sweep.arms) // config.question.repeats
    check_budget(config.budget, arms)
    if config.finalists.top != 1:
        message = "with a question, the best configuration of each arm runs again, and no other"
        raise InputError("finalists.top", config.finalists.top, message, "leave it out")
    if config.finalists.seeds * config.question.repeats < 2:
        message = "one seed cannot tell arms apart"
        raise InputError("finalists.seeds", config.finalists.seeds, message, "give 5, or more")
    if config.question.decide == "test" and on_test(config.objective.metric) is None:
        message = f"it is not known what {config.objective.metric} is called on test"
        remedy = "log val_NAME and test_NAME, or let validation decide"
        raise InputError("question.decide", "test", message, remedy)
    if config.start.sweep is not None:
        message = "an earlier sweep would favour the arms that it searched more"
        raise InputError("start.sweep", config.start.sweep, message, "give start.points instead")


def _check_search(sweep: Sweep) -> None:
    """Raises InputError if the sampler, the pruner or the warm start does not fit the space."""
    config = sweep.config
    config.objective.check(sweep.base.trainer.own_metrics(), logs_any=sweep.base.model.module is not None)
    for arm in sweep.arms:
        try:
            check_sampler(config.sampler.kind, arm.space, sweep.budget_of_arm.target)
        except InputError as error:
            if not sweep.has_question:
                raise
            message, each = f"{error.message} (arm {arm.title})", " an arm" * (error.field == "budget.trials")
            raise InputError(str(error.field), error.value, message, f"{error.remedy}{each}") from error
        check_pruner(config.pruner, sweep.max_epochs(arm))
    for index, point in enumerate(config.start.points):
        sweep.space.check_point(f"start.points[{index}]", point)
        if not any(arm.accepts(point) for arm in sweep.arms):
            message, remedy = "lies in the space of no arm", "give each arm what it searches, in points of its own"
            raise InputError(f"start.points[{index}]", point, message, remedy)
    if config.start.sweep == sweep.name:
        raise InputError(
            "start.sweep", sweep.name, "is the sweep itself", "name an earlier one, or give another --name"
        )
    if config.sampler.kind == "grid" and config.start.is_given:
        remedy = "leave start out, or choose another sampler"
        raise InputError("sampler.kind", "grid", "a grid tries every point, so it has no warm start", remedy)
