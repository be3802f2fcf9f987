"""What the runs of repeats are: one configuration with other seeds, or with each of its folds as the val split.

Repeats over folds are a sweep whose space is the fold; those over seeds are a sweep without a space.
"""

from experiments.config import ExperimentConfig
from experiments.names import check_name
from lightning_modules import InputError
from lightning_modules.metrics import Direction
from sweeps.config import ObjectiveConfig, Sweep, SweepConfig
from sweeps.strategy.budget import BudgetConfig
from sweeps.strategy.space import Parameter, SearchSpace

FOLD = "data.fold"
_MOST = 1000


def plan_repeats(config: ExperimentConfig, *, name: str, seeds: int | None, folds: int | None) -> Sweep:
    """Returns the repeats as a sweep of as many trials. Raises InputError unless exactly one of the two is given.

    The objective is the monitored metric, and all trials run: there is no pruner, and there are no finalists.
    """
    check_name("--name", name)
    if seeds is not None and folds is not None:
        message, remedy = "each run would need both a seed and a fold", "give --seeds or --folds"
        raise InputError("--folds", folds, message, remedy)
    for option, count in (("--seeds", seeds), ("--folds", folds)):
        if count is not None and not 2 <= count <= _MOST:
            message = "one run has no spread" if count == 1 else f"must be from 2 to {_MOST:,}"
            raise InputError(option, count, message, f"give 2 or more, for example {option} 5")
    count = seeds or folds
    if count is None:
        raise InputError("--seeds", None, "is missing", "give the number of seeds or of folds")
    space: tuple[Parameter, ...] = ()
    if folds is not None:
        config = _with_folds(config, folds)
        space = (Parameter(path=FOLD, low=0, high=folds - 1, integer=True, when={}),)
    direction: Direction = "maximize" if config.trainer.sign > 0 else "minimize"
    return Sweep(
        name=name,
        config=SweepConfig(
            recipe=config.experiment,
            space={parameter.path: {"low": 0, "high": count - 1} for parameter in space},
            objective=ObjectiveConfig(metric=config.trainer.monitor, direction=direction),
            budget=BudgetConfig(trials=count),
        ),
        base=config,
        space=SearchSpace(space, {}),
    )


def _with_folds(config: ExperimentConfig, folds: int) -> ExperimentConfig:
    if config.data.module is not None:
        message = f"data.module ({config.data.module}) makes its own splits, which are not folds"
        raise InputError("--folds", folds, message, "use --seeds, or give the module an argument for the fold")
    if config.data.folds is not None:
        message = f"the recipe has data.folds {config.data.folds} already, of which it takes one"
        raise InputError("--folds", folds, message, "leave data.folds and data.fold out of the recipe")
    return config.with_overrides({"data.folds": folds, FOLD: 0})


def is_cross_validation(repeats: Sweep) -> bool:
    return bool(repeats.space.parameters)


def count_of(repeats: Sweep) -> int:
    """Returns the number of runs."""
    assert repeats.config.budget.trials is not None
    return repeats.config.budget.trials


def seed_of(repeats: Sweep, index: int) -> int:
    """Returns the seed of a run: the recipe's own and those that follow it; of folds always the recipe's own."""
    return repeats.base.seed if is_cross_validation(repeats) else (repeats.base.seed + index) % 2**32


def name_of(repeats: Sweep, index: int) -> str:
    """Returns what tells a run from the others: `seed 3`, `fold 2`."""
    return f"fold {index}" if is_cross_validation(repeats) else f"seed {seed_of(repeats, index)}"
