"""Search spaces from YAML: ranges and choices for a recipe's fields, with or without conditions.

optimizer.kind: [sgd, adam]                                              a choice
optimizer.lr: {low: 1.0e-4, high: 1.0e-1, log: true}                      a range, log-uniform; both ends included
optimizer.momentum: {low: 0.0, high: 0.99, when: {optimizer.kind: sgd}}   only if the condition holds
data.batch_size: {choices: [32, 64], when: {optimizer.kind: [sgd, adam]}} a conditional choice
model.network_args.hidden: {low: 64, high: 512, step: 64}                 whole numbers, as the field's type
"""

import itertools
import math
import random
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.config import ExperimentConfig, flatten
from experiments.recipe import field_paths, which_field
from lightning_modules import InputError
from lightning_modules.errors import choose_from
from lightning_modules.showable import is_text, showable

# Trials are compared on the same validation images. So only these fields of the data may differ between trials.
_FIXED = {"experiment", "seed", "trainer.monitor", "trainer.monitor_mode", "trainer.metrics", "trainer.threads"}
_ARGUMENTS = tuple(f"{path}." for path, _ in field_paths(ExperimentConfig) if path.endswith("args"))
_SEARCHABLE_DATA = ("data.batch_size", "data.normalization", "data.augmentation.", "data.sampling", "data.module_args.")
_CORNERS = 256  # combinations of edge values that are checked before the first trial
_GRID = 100_000  # the most points in a grid
_PARAMETERS = 500  # the most of a space
_LARGEST = 2**53  # of a whole number, and of the steps of a range: floats have them exactly
_LONGEST_CHOICE = 250  # characters
_SHOWN = 60  # characters of a value in the description of a point

Scalar = str | int | float | bool | None
Point = dict[str, Scalar]  # dotted paths and values of the parameters whose condition holds


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of the space: either `choices`, or a range from `low` to `high`, both included."""

    path: str
    choices: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    integer: bool = False
    when: Mapping[str, tuple[Scalar, ...]]  # path → the values under which this parameter exists

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna records of the parameter with every trial that `suggest` gave a value of it."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def suggest(self, trial: optuna.Trial) -> Scalar:
        if self.choices:
            chosen: Scalar = trial.suggest_categorical(self.path, self.choices)
            return chosen
        if self.integer:
            step = int(self.step or 1)
            return trial.suggest_int(self.path, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log)

    def corners(self) -> tuple[Scalar, ...]:
        """Returns the values at the edges: every choice, or both ends of the range."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    @property
    def is_number(self) -> bool:
        """Whether all its values are numbers."""
        return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in self.choices)

    @property
    def count(self) -> int | None:
        """The number of values; None for infinitely many, and for a log range, which has no equal steps."""
        if self.choices:
            return len(self.choices)
        step = self.step or (1 if self.integer else None)
        return None if self.log or step is None else math.floor((self.high - self.low) / step + 1e-8) + 1

    def value(self, index: int) -> Scalar:
        """Returns value number `index`, counted from 0. Only for a parameter with a `count`."""
        if self.choices:
            return self.choices[index]
        if self.integer:
            return int(self.low) + index * int(self.step or 1)
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))  # exactly 0.1, 0.2, 0.3

    def at(self, fraction: float) -> Scalar:
        """Returns the value at a fraction of the way from the first value to the last; 0 is included, 1 is not."""
        if self.count is not None:
            return self.value(int(fraction * self.count))
        if not self.log:
            return min(self.low + fraction * (self.high - self.low), self.high)
        margin = 0.5 if self.integer else 0.0  # makes both ends of an integer range as likely as the values between
        low, high = math.log(self.low - margin), math.log(self.high + margin)
        value = math.exp(low + fraction * (high - low))
        value = min(max(round(value) if self.integer else value, self.low), self.high)
        return int(value) if self.integer else value

    def contains(self, value: object) -> bool:
        """Whether the parameter can have the value."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int if self.integer else int | float):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-8

    def describe(self) -> str:
        """Returns a short description of its values: `[0.1, 0.5]`, `one of adam, sgd`."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return f"[{self.low:g}, {self.high:g}]" + (f" in steps of {self.step:g}" if self.step else "")


@dataclass(frozen=True)
class SearchSpace:
    """Parameters, each one after the parameters that its condition reads."""

    parameters: tuple[Parameter, ...]
    base: Mapping[str, Scalar]  # values of all fields of the recipe, for conditions on fields that are not searched

    @classmethod
    def parse(cls, tree: Mapping[str, Any], base: ExperimentConfig) -> "SearchSpace":
        """Reads the `space` of a sweep recipe for the fields of `base`. Raises InputError if it cannot work."""
        if len(tree) > _PARAMETERS:
            raise InputError("space", len(tree), f"has more than {_PARAMETERS} fields", "search fewer at a time")
        values = flatten(base.tree())
        types = dict(field_paths(ExperimentConfig))
        parameters = {path: _parameter(path, given, types) for path, given in tree.items()}
        ordered: dict[str, Parameter] = {}
        waiting = dict(parameters)
        while waiting:
            ready = [p for p in waiting.values() if not any(parent in waiting for parent in p.when)]
            if not ready:
                names = ", ".join(sorted(waiting))
                raise InputError("space", names, "their conditions form a circle", "remove one of them")
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
                        message = f"is not a choice of {parent}"
                        raise InputError(field, value, message, choose_from(value, map(str, choices)))
        space = cls(tuple(ordered.values()), values)
        space._check_corners(base)
        return space

    def suggest(self, trial: optuna.Trial) -> Point:
        """Draws a point with the trial's sampler."""
        point: Point = {}
        for parameter in self.parameters:
            if self._holds(parameter, point):
                point[parameter.path] = parameter.suggest(trial)
        return point

    @cached_property
    def grid(self) -> tuple[Point, ...]:
        """Every point once, the last parameter changing fastest. All parameters must have a `count`."""
        points: list[Point] = [{}]
        for parameter in self.parameters:
            assert parameter.count is not None
            if len(points) * parameter.count > _GRID:
                remedy = "make steps wider, or choose sampler.kind random or quasi_random"
                raise InputError("sampler.kind", "grid", f"the grid has more than {_GRID:,} points", remedy)
            values = [parameter.value(index) for index in range(parameter.count)]
            points = [
                longer
                for point in points
                for longer in (
                    [point | {parameter.path: v} for v in values] if self._holds(parameter, point) else [point]
                )
            ]
        return tuple(points)

    def at(self, fractions: Sequence[float]) -> Point:
        """Returns the point at a place in the unit cube: one coordinate per parameter, 0 included, 1 not."""
        point: Point = {}
        for parameter, fraction in zip(self.parameters, fractions, strict=True):
            if self._holds(parameter, point):
                point[parameter.path] = parameter.at(fraction)
        return point

    def shared(self, params: Mapping[str, Scalar]) -> Point | None:
        """Returns the part of an earlier sweep's point that this space searches too, or None if it lies outside."""
        point: Point = {}
        for parameter in self.parameters:
            if parameter.path in params and self._holds(parameter, point):
                if not parameter.contains(params[parameter.path]):
                    return None
                point[parameter.path] = params[parameter.path]
        return point or None

    def check_point(self, field: str, point: Mapping[str, Any]) -> None:
        """Raises InputError if a given point lies outside the space. The point may leave parameters out."""
        known = {parameter.path: parameter for parameter in self.parameters}
        for path, value in point.items():
            if path not in known:
                raise InputError(f"{field}.{path}", value, "is not in the space", choose_from(path, known))
            if not known[path].contains(value):
                remedy = f"the space has {known[path].describe()}"
                raise InputError(f"{field}.{path}", value, "lies outside the space", remedy)
            if not self._holds(known[path], point):
                conditions = ", ".join(
                    f"{parent} is {' or '.join(map(str, values))}" for parent, values in known[path].when.items()
                )
                remedy = "give that as well, or leave this out"
                raise InputError(f"{field}.{path}", value, f"exists only if {conditions}", remedy)

    def with_constants(self, point: Point) -> "SearchSpace":
        """Returns the part of the space that exists with the values in `base`, and the fields of `point` as parameters.

        `point`: fields outside the space, with the values that `base` has.
        """
        kept = {path: Parameter(path=path, choices=(value,), when={}) for path, value in point.items()}
        for parameter in self.parameters:
            open_conditions = {parent: wanted for parent, wanted in parameter.when.items() if parent in self._searched}
            settled = parameter.when.keys() - open_conditions.keys()
            has_parents = all(parent in kept for parent in open_conditions)
            if has_parents and all(self.base[parent] in parameter.when[parent] for parent in settled):
                kept[parameter.path] = replace(parameter, when=open_conditions)
        return SearchSpace(tuple(kept.values()), self.base)

    def _holds(self, parameter: Parameter, point: Mapping[str, Scalar]) -> bool:
        return all(
            (
                point[parent] in values
                if parent in point
                else parent not in self._searched and self.base[parent] in values
            )
            for parent, values in parameter.when.items()
        )

    @cached_property
    def _searched(self) -> set[str]:
        return {parameter.path for parameter in self.parameters}

    def corners(self) -> Iterator[Point]:
        """Yields points at the edges: every combination of choices and ends, or a fixed sample if there are many."""
        edges = [parameter.corners() for parameter in self.parameters]
        combinations: Iterable[tuple[Scalar, ...]] = itertools.product(*edges)
        if math.prod(len(edge) for edge in edges) > _CORNERS:
            draw = random.Random(0)
            combinations = (tuple(draw.choice(edge) for edge in edges) for _ in range(_CORNERS))
        for combination in combinations:
            point: Point = {}
            for parameter, value in zip(self.parameters, combination, strict=True):
                if self._holds(parameter, point):
                    point[parameter.path] = value
            yield point

    def _check_corners(self, base: ExperimentConfig) -> None:
        """Builds the configurations at the corners of the space, so that a wrong field fails before the first trial."""
        for point in self.corners():
            try:
                base.with_overrides(point)
            except InputError as error:
                message = f"{error.field}: {error.message}, at {point}"
                raise InputError(f"space.{error.field}", error.value, message, error.remedy) from error


def check_constant(where: str, path: str, value: Any, types: Mapping[str, Any]) -> None:
    """Raises InputError about `where` unless the field may differ between trials, and the value is a plain one.

    `types`: the types of all fields, by their paths.
    """
    if not isinstance(value, Scalar):
        raise InputError(where, value, "is not a plain value", "give text, a number, true, false or null")
    try:
        _parameter(path, [value], types)
    except InputError as error:
        raise InputError(where, path, error.message, error.remedy) from error


def _parameter(path: str, given: Any, types: Mapping[str, Any]) -> Parameter:
    field = f"space.{path}"
    free = path.startswith(_ARGUMENTS)
    if path not in types and not free:
        raise InputError(field, given, "the recipe has no such field", which_field(path, types))
    if path in _FIXED or (path.startswith("data.") and not path.startswith(_SEARCHABLE_DATA)):
        raise InputError(field, given, "must be the same for all trials of a sweep", "set it under overrides")
    if isinstance(given, list):
        given = {"choices": given}
    if not isinstance(given, dict):
        raise InputError(field, given, "is neither a range nor a list of choices", "write [a, b] or {low: …, high: …}")
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
        raise InputError(f"{field}.when", when, "is not a mapping", "write {optimizer.kind: sgd}")
    return {path: tuple(values) if isinstance(values, list) else (values,) for path, values in when.items()}


def _choices(field: str, given: Mapping[str, Any]) -> tuple[Scalar, ...]:
    choices = given["choices"]
    if not isinstance(choices, list) or not choices or not all(isinstance(c, Scalar) for c in choices):
        raise InputError(field, choices, "choices must be a list of plain values", "write [32, 64]")
    for choice in choices:
        if isinstance(choice, str) and (len(choice) > _LONGEST_CHOICE or not is_text(choice)):
            message = f"a choice is no Unicode text of at most {_LONGEST_CHOICE} characters"
            raise InputError(field, choice, message, "shorten it")
    if len(given.keys() - {"choices", "when"}) > 0:
        raise InputError(field, dict(given), "has both choices and a range", "keep one of the two")
    return tuple(choices)


def _range(path: str, given: Mapping[str, Any], when: Mapping[str, tuple[Scalar, ...]], hint: Any) -> Parameter:
    field = f"space.{path}"
    for end in ("low", "high"):
        if not isinstance(given.get(end), int | float) or isinstance(given[end], bool):
            raise InputError(f"{field}.{end}", given.get(end), "must be a number", "write {low: 0.1, high: 0.9}")
        if not abs(given[end]) <= (_LARGEST if isinstance(given[end], int) else sys.float_info.max):
            raise InputError(f"{field}.{end}", given[end], "is too large", "write {low: 0.1, high: 0.9}")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise InputError(f"{field}.log", log, "must be true or false", "write log: true")
    if not low < high:
        raise InputError(field, dict(given), "needs low below high", "swap them")
    if log and not low > 0:
        raise InputError(f"{field}.low", low, "must be above 0 in a log range", "try 1.0e-5")
    if step is not None and (log or isinstance(step, bool) or not isinstance(step, int | float) or not step > 0):
        raise InputError(f"{field}.step", step, "must be a number above 0, without log", "leave one of the two out")
    if step is not None and not (step <= sys.float_info.max and (high - low) / step <= _LARGEST):
        raise InputError(f"{field}.step", step, "makes too many steps", "give a larger one")
    whole = all(isinstance(number, int) for number in (low, high, step or 1))
    takes = {hint, *getattr(hint, "__args__", ())}
    integer = whole if hint is None else int in takes and float not in takes
    if integer and not whole:
        raise InputError(field, dict(given), "this field takes whole numbers", "use them for low, high and step")
    return Parameter(path=path, low=low, high=high, log=log, step=step, integer=integer, when=when)


def describe(point: Mapping[str, Scalar]) -> str:
    """Returns a short description of a point, which names its run: `sgd lr=0.03 momentum=0.9`."""
    words = []
    for path, value in point.items():
        name = path.rpartition(".")[2]
        text = f"{value:.3g}" if isinstance(value, float) else showable(str(value), _SHOWN)
        words.append(text if name == "kind" else f"{name}={text}")
    return " ".join(words)


def shortened(description: str, most: int = 40) -> str:
    """Returns the first whole words of a point's description, with `…` for the rest, in at most `most` characters."""
    return textwrap.shorten(description, most, placeholder=" …", break_on_hyphens=False, break_long_words=False)
