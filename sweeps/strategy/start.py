"""Warm start: the points that a sweep tries first, given by hand or taken from an earlier sweep."""

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from lightning_modules import InputError
from lightning_modules.config import Count, section
from lightning_modules.errors import choose_from
from sweeps.strategy.space import Point, SearchSpace


@section("start")
class StartConfig:
    """What the first slots try: the given points, then the best of an earlier sweep. Missing parameters are drawn.

    The earlier sweep is read only once, when the sweep starts. Later changes to it have no effect.
    """

    points: list[dict[str, Any]] = field(default_factory=list)
    """Points to try first, each with dotted fields of the space and their values."""

    sweep: str | None = None
    """The name of an earlier sweep in the same store."""

    top: Count = 3
    """How many of its best trials: those inside this space, in the fields that both search."""

    @property
    def is_given(self) -> bool:
        return bool(self.points) or self.sweep is not None


def earlier_studies(name: str, storage: BaseStorage) -> list[optuna.Study]:
    """Returns the study of an earlier sweep, or all that have its trials: those of the arms of its question.

    Raises InputError if the store has no sweep of this name.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        remedy = choose_from(name, names) if names else "run it first"
        raise InputError("start.sweep", name, "no such sweep in this store", remedy)
    study = optuna.load_study(study_name=name, storage=storage)
    if len(study.directions) > 1:
        raise InputError("start.sweep", name, "is no sweep: its study has several objectives", "name a sweep")
    has_question = any(field.startswith("question.") for field in study.user_attrs.get("identity", {}))
    arms = [each for each in names if each.startswith(f"{name} arm ")] if has_question else []
    return [study, *(optuna.load_study(study_name=each, storage=storage) for each in arms)]


def first_points(start: StartConfig, space: SearchSpace, earlier: Sequence[FrozenTrial]) -> list[Point]:
    """Returns the points to try first, each once. `earlier` has the complete trials of `start.sweep`, best first."""
    points = _distinct(dict(point) for point in start.points)
    if start.sweep is None:
        return points
    best = _distinct(point for trial in earlier if (point := space.shared(trial.params)))[: start.top]
    if not best:
        remedy = "widen the space, or name another sweep"
        raise InputError("start.sweep", start.sweep, "has no complete trial within this sweep's space", remedy)
    return _distinct([*points, *best])


def _distinct(points: Iterable[Point]) -> list[Point]:
    found: list[Point] = []
    for point in points:
        if point not in found:
            found.append(point)
    return found
