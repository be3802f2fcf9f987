"""Proposes the next point.

`tpe`, `gp`, `cmaes` and `random` are Optuna's samplers. Each draw uses a new sampler, seeded by the slot, that learns
from the study alone (CMA-ES keeps its state on the trials). So an interrupted sweep draws the same points. `grid`
and `quasi_random` are lists of points that are known in advance, like the points of a warm start. A trial records which
point it took. The next trial takes the first free point, whichever worker runs it, and even if other workers died.
"""

import itertools
import random
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from pydantic import Field
from scipy.stats import qmc

from lightning_modules import InputError
from lightning_modules.config import Natural, check_settings, section
from sweeps.strategy.settings import settings_of
from sweeps.strategy.space import Point, SearchSpace

SamplerKind = Literal["tpe", "gp", "cmaes", "random", "grid", "quasi_random"]

SETTINGS: dict[str, dict[str, Any]] = {
    "tpe": {"startup_trials": 10, "startup": "random", "candidates": 24, "group": False},
    "gp": {"startup_trials": 10, "startup": "random"},
    "cmaes": {"startup_trials": 1, "population": None},
    "random": {},
    "grid": {},
    "quasi_random": {},
}


@section("sampler")
class SamplerConfig:
    """How the next point is proposed. A null setting has its kind's default. A setting of another kind is an error.

    `tpe`: tree-structured Parzen estimators (Watanabe 2023). `gp`: a Gaussian process with expected improvement.
    `cmaes`: covariance matrix adaptation (Hansen 2016). `grid`: every point of a finite space once, in an order drawn
    from the seed. `quasi_random`: a scrambled Sobol sequence, which leaves smaller gaps than `random`.
    """

    kind: SamplerKind = "tpe"
    """How the next point is proposed."""

    startup_trials: Natural | None = None
    """Kinds tpe, gp (null: 10), cmaes (null: 1): trials at the start that do not depend on others."""

    startup: Literal["random", "quasi_random"] | None = None
    """Kinds tpe, gp (null: random): how these are drawn."""

    candidates: Annotated[int, Field(ge=1, le=10**5, examples=[24])] | None = None
    """Kind tpe (null: 24): candidate points per draw."""

    group: bool | None = None
    """Kind tpe (null: false): draws conditional fields together with the others, not each by itself."""

    population: Annotated[int, Field(ge=4, le=10**5, examples=[8])] | None = None
    """Kind cmaes (null: 4 + 3 ln d for d parameters): complete trials per generation."""

    def __post_init__(self) -> None:
        check_settings("sampler", self, SETTINGS)


def check_sampler(kind: SamplerKind, space: SearchSpace, trials: int | None) -> None:
    """Raises InputError if the sampler cannot work on the space, or if a grid has fewer points than `trials`."""
    searched = {parameter.path for parameter in space.parameters}
    if kind == "quasi_random" and not searched:
        raise InputError("sampler.kind", kind, "there is no field to search", "choose another, or give a space")
    for parameter in space.parameters:
        if kind in ("gp", "cmaes") and not searched.isdisjoint(parameter.when):
            message = f"{kind} would always draw the conditional {parameter.path} at random"
            raise InputError("sampler.kind", kind, message, "choose tpe, random, grid or quasi_random")
        if kind == "cmaes" and len(parameter.choices) > 1:
            message = f"{kind} would always draw the choices of {parameter.path} at random"
            raise InputError("sampler.kind", kind, message, "choose tpe or gp, or give a range")
        if kind == "grid" and parameter.count is None:
            message = "a grid needs a finite space"
            raise InputError(f"space.{parameter.path}", parameter.describe(), message, "give choices, or a step")
    if kind == "grid":
        points = len(space.grid)  # raises InputError if the grid is too large
        if trials is not None and trials > points:
            raise InputError("budget.trials", trials, f"the grid has {points} points", f"ask for {points} or fewer")


def make_sampler(config: SamplerConfig, seed: int) -> BaseSampler:
    """Returns Optuna's sampler for one draw. For listed points, it draws the parameters that a point leaves out."""
    settings = settings_of(config, SETTINGS)
    match config.kind:
        case "tpe":
            startup, candidates = settings["startup_trials"], settings["candidates"]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # group, since Optuna 2.8
                return TPESampler(
                    seed=seed, n_startup_trials=startup, n_ei_candidates=candidates, group=settings["group"]
                )
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=settings["startup_trials"], warn_independent_sampling=False)
        case "cmaes":
            return CmaEsSampler(
                seed=seed,
                n_startup_trials=settings["startup_trials"],
                popsize=settings["population"],
                warn_independent_sampling=False,
            )
        case _:
            return RandomSampler(seed=seed)


def next_listed(
    config: SamplerConfig, space: SearchSpace, seed: int, start: Sequence[Point], taken: set[str]
) -> tuple[str, Point] | None:
    """Returns the name and the values of the first listed point whose name is not in `taken`; None if none is left.

    The points of a warm start come first. `seed` decides the order of a grid and the scrambling of the sequence.
    """
    for index, point in enumerate(start):
        if (name := f"start {index}") not in taken:
            return name, point
    if config.kind == "grid":
        for index in random.Random(seed).sample(range(len(space.grid)), len(space.grid)):
            if (name := f"grid {index}") not in taken:
                return name, space.grid[index]
    settings = settings_of(config, SETTINGS)
    if config.kind == "quasi_random" or settings.get("startup") == "quasi_random":
        index = next(index for index in itertools.count() if f"quasi_random {index}" not in taken)
        if config.kind != "quasi_random" and index >= settings["startup_trials"]:
            return None
        sequence = qmc.Sobol(len(space.parameters), rng=seed)
        if index:
            sequence.fast_forward(index)
        return f"quasi_random {index}", space.at(sequence.random(1)[0].tolist())
    return None
