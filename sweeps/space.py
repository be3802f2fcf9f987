"""Search spaces from YAML: ranges and choices over a recipe's fields, conditional ones included.

optimizer.kind: [sgd, adam]                                              a choice
optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}                      a range, log-uniform; both ends included
optimizer.momentum: {low: 0.0, high: 0.99, when: {optimizer.kind: sgd}}   only where the condition holds
data.batch_size: {choices: [32, 64], when: {optimizer.kind: [sgd, adam]}} a conditional choice
model.network_args.hidden: {low: 64, high: 512, step: 64}                 whole numbers, as the field has them
"""

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from experiments.config import ExperimentConfig, flatten
from experiments.recipe import field_paths
from lightning_modules import InputError
from lightning_modules.errors import choose_from

# Trials are compared on the same validation images, so these are fixed for a whole sweep.
_FIXED = {"experiment", "seed", "trainer.monitor", "trainer.threads"}
_FIXED |= {f"data.{name}" for name in ("source", "root", "path", "labels_path")}
_FIXED |= {f"data.{name}" for name in ("split_seed", "val_fraction", "test_fraction")}
_CORNERS = 256  # combinations of choices tried before the first trial

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension: either `choices`, or a range from `low` to `high`, both included."""

    path: str
    choices: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    integer: bool = False
    when: Mapping[str, tuple[Scalar, ...]]  # path → the values under which this parameter exists

    def suggest(self, trial: optuna.Trial) -> Scalar:
        if self.choices:
            chosen: Scalar = trial.suggest_categorical(self.path, self.choices)
            return chosen
        if self.integer:
            step = int(self.step or 1)
            return trial.suggest_int(self.path, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log)

    def corners(self) -> tuple[Scalar, ...]:
        """The values at its edges: every choice, or both ends."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)


@dataclass(frozen=True)
class SearchSpace:
    """Parameters, each after those that its condition reads."""

    parameters: tuple[Parameter, ...]
    base: Mapping[str, Scalar]  # values of fields that conditions read and that are no parameter

    @classmethod
    def parse(cls, tree: Mapping[str, Any], base: ExperimentConfig) -> "SearchSpace":
        """Reads the `space` of a sweep recipe over the fields of `base`; raises InputError for what cannot work."""
        values = flatten(base.tree())
        types = dict(field_paths(ExperimentConfig))
        parameters = {path: _parameter(path, given, types) for path, given in tree.items()}
        ordered: dict[str, Parameter] = {}
        waiting = dict(parameters)
        while waiting:
            ready = [p for p in waiting.values() if not any(parent in waiting for parent in p.when)]
            if not ready:
                names = ", ".join(sorted(waiting))
                raise InputError("space", names, "their conditions wait for each other", "break the circle")
            for parameter in ready:
                ordered[parameter.path] = waiting.pop(parameter.path)
        for parameter in parameters.values():
            for parent, wanted in parameter.when.items():
                field = f"space.{parameter.path}.when"
                if parent not in parameters and parent not in values:
                    raise InputError(field, parent, "no such field", choose_from(parent, [*parameters, *values]))
                choices = parameters[parent].choices if parent in parameters else ()
                for value in wanted:
                    if choices and value not in choices:
                        message = f"is no choice of {parent}"
                        raise InputError(field, value, message, choose_from(value, map(str, choices)))
        space = cls(tuple(ordered.values()), values)
        space._check_corners(base)
        return space

    def suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """Draws a point: dotted paths with their values, of those parameters whose condition holds."""
        point: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if self._holds(parameter, point):
                point[parameter.path] = parameter.suggest(trial)
        return point

    def _holds(self, parameter: Parameter, point: Mapping[str, Scalar]) -> bool:
        searched = {p.path for p in self.parameters}
        return all(
            (point[parent] in values if parent in point else parent not in searched and self.base[parent] in values)
            for parent, values in parameter.when.items()
        )

    def corners(self) -> Iterator[dict[str, Scalar]]:
        """Points at the edges: every combination of choices and ends, or a fixed sample where they are many."""
        edges = [parameter.corners() for parameter in self.parameters]
        combinations: Iterable[tuple[Scalar, ...]] = itertools.product(*edges)
        if math.prod(len(edge) for edge in edges) > _CORNERS:
            draw = random.Random(0)
            combinations = (tuple(draw.choice(edge) for edge in edges) for _ in range(_CORNERS))
        for combination in combinations:
            point: dict[str, Scalar] = {}
            for parameter, value in zip(self.parameters, combination, strict=True):
                if self._holds(parameter, point):
                    point[parameter.path] = value
            yield point

    def _check_corners(self, base: ExperimentConfig) -> None:
        """Builds the configuration at the corners of the space, so that a bad field fails before any trial."""
        for point in self.corners():
            try:
                base.with_overrides(point)
            except InputError as error:
                message = f"{error.field}: {error.message}, at {point}"
                raise InputError(f"space.{error.field}", error.value, message, error.remedy) from error


def _parameter(path: str, given: Any, types: Mapping[str, Any]) -> Parameter:
    field = f"space.{path}"
    free = path.startswith("model.network_args.")
    if path not in types and not free:
        raise InputError(field, given, "the recipe has no such field", choose_from(path, types))
    if path in _FIXED:
        raise InputError(field, given, "is the same for all trials of a sweep", "set it under overrides")
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, dict):
        raise InputError(field, given, "is no range and no choice", "write [a, b] or {low: …, high: …}")
    known = {"choices", "low", "high", "log", "step", "when"}
    for key in given:
        if key not in known:
            raise InputError(f"{field}.{key}", given[key], "no such setting", choose_from(key, known))
    when = _conditions(field, given.get("when", {}))
    if "choices" in given:
        return Parameter(path=path, choices=_choices(field, given), when=when)
    return _range(path, given, when, types.get(path))


def _conditions(field: str, when: Any) -> dict[str, tuple[Scalar, ...]]:
    if not isinstance(when, dict):
        raise InputError(f"{field}.when", when, "is no mapping", "write {optimizer.kind: sgd}")
    return {path: tuple(values) if isinstance(values, list) else (values,) for path, values in when.items()}


def _choices(field: str, given: Mapping[str, Any]) -> tuple[Scalar, ...]:
    choices = given["choices"]
    if not isinstance(choices, list) or not choices or not all(isinstance(c, Scalar) for c in choices):
        raise InputError(field, choices, "choices are a list of plain values", "write [32, 64]")
    if len(given.keys() - {"choices", "when"}) > 0:
        raise InputError(field, dict(given), "has both choices and a range", "keep one of the two")
    return tuple(choices)


def _range(path: str, given: Mapping[str, Any], when: Mapping[str, tuple[Scalar, ...]], hint: Any) -> Parameter:
    field = f"space.{path}"
    for end in ("low", "high"):
        if not isinstance(given.get(end), int | float) or isinstance(given[end], bool):
            raise InputError(f"{field}.{end}", given.get(end), "must be a number", "write {low: 0.1, high: 0.9}")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise InputError(f"{field}.log", log, "must be true or false", "write log: true")
    if not low < high:
        raise InputError(field, dict(given), "needs low below high", "swap them")
    if log and not low > 0:
        raise InputError(f"{field}.low", low, "a log range starts above 0", "try 1.0e-5")
    if step is not None and (log or isinstance(step, bool) or not isinstance(step, int | float) or not step > 0):
        raise InputError(f"{field}.step", step, "must be a number above 0, without log", "leave one of the two out")
    whole = all(isinstance(number, int) for number in (low, high, step or 1))
    takes = {hint, *getattr(hint, "__args__", ())}
    integer = whole if hint is None else int in takes and float not in takes
    if integer and not whole:
        raise InputError(field, dict(given), "this field takes whole numbers", "give low, high and step as such")
    return Parameter(path=path, low=low, high=high, log=log, step=step, integer=integer, when=when)


def describe(point: Mapping[str, Scalar]) -> str:
    """A point in a few words, to name its run: `sgd lr=0.03 momentum=0.9`."""
    words = []
    for path, value in point.items():
        name = path.rpartition(".")[2]
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        words.append(text if name == "kind" else f"{name}={text}")
    return " ".join(words)
