"""The question that a sweep answers: the arms that it compares, each with a search space of its own.

question: {compare: optimizer.kind, values: [sgd, adam]}         an arm for each value
question: {compare: [optimizer.kind, data.batch_size]}           an arm for each combination of the space's choices
question: {arms: {plain: {}, flips: {overrides: {…}, space: {…}}}}
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from experiments.config import ExperimentConfig, flatten
from experiments.names import check_name
from experiments.recipe import field_paths
from lightning_modules import InputError
from lightning_modules.config import section
from lightning_modules.errors import choose_from
from sweeps.strategy.budget import BudgetConfig
from sweeps.strategy.space import Parameter, Point, Scalar, SearchSpace, check_constant, describe

Decide = Literal["validation", "test"]

_MOST_ARMS = 50
_LONGEST_NAME = 100  # characters
_KNOWN = ("overrides", "space")


@section("question")
class QuestionConfig:
    """What the sweep compares. Each arm gets the same number of trials, and its best configuration the same new seeds.

    Give `compare`, or `arms` by name.
    """

    compare: str | list[str] | None = None
    """The field, or the fields, whose values are compared; each combination is an arm."""

    values: list[str | int | float | bool | None] = field(default_factory=list)
    """The values of the one field that is compared; without them, its choices in the space."""

    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arms by name, each with its `overrides`, its own `space`, or both; the sweep's space is common to all."""

    decide: Decide = "validation"
    """The split whose scores decide; test is read once an arm and seed, at the end."""

    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often the whole search is repeated, each time with other seeds and with `budget.trials`."""

    def __post_init__(self) -> None:
        without_effect = {"values": self.values, "decide": self.decide != "validation", "repeats": self.repeats > 1}
        for name in (name for name, is_set in without_effect.items() if is_set and not self.is_given):
            message = "has no effect without a question"
            raise InputError(f"question.{name}", getattr(self, name), message, "give question.compare or question.arms")
        for name in ("compare", "values"):
            if self.arms and (value := getattr(self, name)):
                message = "has no effect beside question.arms"
                raise InputError(f"question.{name}", value, message, "leave one of the two out")

    @property
    def is_given(self) -> bool:
        return self.compare is not None or bool(self.arms)

    @property
    def fields(self) -> list[str]:
        """The fields that are compared; none with named arms."""
        return [] if self.compare is None else [self.compare] if isinstance(self.compare, str) else self.compare

    def identity(self) -> dict[str, Any]:
        """Returns what must stay the same when the sweep is continued."""
        given = {"compare": self.fields, "values": self.values, "arms": self.arms}
        return {f"question.{name}": value for name, value in given.items() if value}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the settings that a question compares: a search of its own. A sweep without a question has one arm."""

    name: str = ""  # empty: of a sweep without a question
    space: SearchSpace
    repeat: int = 0
    is_named: bool = False  # by the recipe: its params do not show which arm it is

    @property
    def title(self) -> str:
        """Its name, and the repeat if it is not the first. No two arms of a sweep have the same."""
        return f"{self.name} repeat {self.repeat + 1}" if self.repeat else self.name

    def role(self, role: str) -> str:
        """Returns the role that its seeds have.

        Arms share the seeds of a slot, so that the same setting under two names is the same search. Repeats do not.
        """
        return f"{role} of repeat {self.repeat + 1}" if self.repeat else role

    def describe(self, params: Mapping[str, Scalar]) -> str:
        """Returns the name of a run with these params."""
        return f"{self.name}: {describe(params)}".rstrip(": ") if self.is_named else describe(params)

    def accepts(self, point: Point) -> bool:
        """Whether a point that is given lies in its space."""
        try:
            self.space.check_point("", point)
        except InputError:
            return False
        return True


def arms_of(question: QuestionConfig, space: Mapping[str, Any], base: ExperimentConfig) -> tuple[Arm, ...]:
    """Returns the arms of a question, those of all repeats. `space`: the sweep's, as it is written.

    Raises InputError if a field or a value cannot be compared, or if there are fewer than two arms.
    """
    arms = _named(question, space, base) if question.arms else _compared(question, space, base)
    names = [arm.name for arm in arms]
    for name in names:
        check_name("question", name, _LONGEST_NAME)
        if names.count(name) > 1:
            where = "question.values" if question.values else f"space.{', '.join(question.fields)}"
            raise InputError(where, name, "is given twice", "give each value once")
    if not 2 <= len(arms) <= _MOST_ARMS:
        message = f"has {len(arms)} arm{'s' * (len(arms) != 1)}"
        raise InputError("question", ", ".join(names), message, f"compare 2 to {_MOST_ARMS} values or arms")
    repeated = tuple(replace(arm, repeat=repeat) for repeat in range(question.repeats) for arm in arms)
    titles = [arm.title for arm in repeated]
    for title in titles:
        if titles.count(title) > 1:
            raise InputError("question", title, "is the name of an arm and of another one's repeat", "rename the arm")
    return repeated


def check_budget(budget: BudgetConfig, arms: int) -> None:
    """Raises InputError unless the budget is a number of trials that can be shared equally among the arms."""
    for name in ("hours", "no_improvement"):
        if (value := getattr(budget, name)) is not None:
            message = "does not give every arm the same number of trials, as a question needs"
            raise InputError(f"budget.{name}", value, message, "give budget.trials instead")
    assert budget.target is not None
    if budget.target < arms or budget.target % arms:
        below = budget.target - budget.target % arms
        message = f"cannot be shared equally among {arms} arms"
        remedy = f"give {below} or {below + arms}" if below else f"give {arms} or more"
        raise InputError("budget.trials", budget.target, message, remedy)


def shown_space(arms: Sequence[Arm], base: Mapping[str, Scalar]) -> SearchSpace:
    """Returns one space that contains those of all arms: what is shown of the search. No trial is drawn from it."""
    merged: dict[str, Parameter] = {}
    for arm in arms:
        for parameter in arm.space.parameters:
            known = merged.get(parameter.path)
            merged[parameter.path] = parameter if known is None or known == parameter else _merged(known, parameter)
    return SearchSpace(tuple(merged.values()), base)


def _compared(question: QuestionConfig, space: Mapping[str, Any], base: ExperimentConfig) -> list[Arm]:
    types = dict(field_paths(ExperimentConfig))
    if not question.fields:
        raise InputError("question.compare", question.compare, "names no field", "name a field, such as optimizer.kind")
    for path in question.fields:
        if question.fields.count(path) > 1:
            raise InputError("question.compare", path, "is given twice", "name each field once")
    if question.values and len(question.fields) > 1:
        message = "several fields are compared"
        remedy = "give each field its choices in the space, or name the arms (question.arms)"
        raise InputError("question.values", question.values, message, remedy)
    if not question.values:
        SearchSpace.parse(space, base)  # its errors concern the space
    choices = [[(path, value) for value in _values(path, question.values, space, types)] for path in question.fields]
    others = {path: given for path, given in space.items() if path not in question.fields}
    arms = []
    for combination in itertools.product(*choices):
        point = dict(combination)
        words = [_as_text(value) for value in point.values()]
        name = words[0] if len(words) == 1 else describe(dict(zip(point, words, strict=True)))
        arms.append(Arm(name=name, space=_space_of("question.values", point, others, base)))
    return arms


def _values(path: str, given: Sequence[Scalar], space: Mapping[str, Any], types: Mapping[str, Any]) -> Sequence[Scalar]:
    """Returns the values of a compared field, after it was checked that the field may differ between trials."""
    written = space.get(path)
    if isinstance(written, dict) and "when" in written:
        message = "has a condition in the space, so not every arm would have it"
        raise InputError("question.compare", path, message, "compare another field, or name the arms (question.arms)")
    found = list(given) or (written.get("choices") if isinstance(written, dict) else written)
    if found is None:
        check_constant("question.compare", path, None, types)  # for its errors: no such field, or none that may differ
        message = "has no choices in the space" if written is None else "has a range in the space"
        raise InputError("question.compare", path, message, "list what to compare: question.values")
    for value in found:
        check_constant("question.compare", path, value, types)
    return list(found)


def _named(question: QuestionConfig, space: Mapping[str, Any], base: ExperimentConfig) -> list[Arm]:
    arms = []
    for name, given in question.arms.items():
        where = f"question.arms.{name}"
        if not name.strip():
            raise InputError("question.arms", name, "an arm has no name", "name it")
        for key, value in given.items():
            if key not in _KNOWN:
                raise InputError(f"{where}.{key}", value, "no such setting of an arm", choose_from(key, _KNOWN))
            if not isinstance(value, dict):
                raise InputError(f"{where}.{key}", value, "is not a mapping", "write {optimizer.lr: 0.01}")
        overrides = flatten(given.get("overrides", {}))
        own = given.get("space", {})
        for path in overrides:
            if path in own:
                message = "is in the arm's overrides and in its space"
                raise InputError(f"{where}.space.{path}", own[path], message, "keep one of the two")
        searched = {path: values for path, values in (dict(space) | own).items() if path not in overrides}
        types = dict(field_paths(ExperimentConfig))
        for path, value in overrides.items():
            check_constant(f"{where}.overrides.{path}", path, value, types)
        try:
            arm = Arm(name=name, space=_space_of(f"{where}.overrides", overrides, searched, base), is_named=True)
        except InputError as error:
            is_own = any(str(error.field).startswith(f"space.{path}") for path in own)
            inside = f"{where}.{error.field}" if is_own else error.field
            raise InputError(str(inside), error.value, error.message, error.remedy) from error
        arms.append(arm)
    return arms


def _space_of(where: str, fixed: Point, others: Mapping[str, Any], base: ExperimentConfig) -> SearchSpace:
    """Returns an arm's space: what it fixes, as parameters of one value, and the other fields that exist with it."""
    try:
        own = base.with_overrides(fixed)
    except InputError as error:
        raise InputError(where, error.value, f"{error.field}: {error.message}", error.remedy) from error
    return SearchSpace.parse(others, own).with_constants(fixed)


def _as_text(value: Scalar) -> str:
    """Returns the value as YAML has it."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _merged(one: Parameter, other: Parameter) -> Parameter:
    """Returns a parameter with the values of both."""
    if one.choices and other.choices:
        return replace(one, choices=tuple(_distinct([*one.choices, *other.choices])), when={})
    numbers = [number for each in (one, other) for number in _numbers(each)]
    logs = [each.log for each in (one, other) if not each.choices]
    return replace(
        one,
        choices=(),
        low=min(numbers),
        high=max(numbers),
        log=all(logs) and min(numbers) > 0,
        step=one.step if one.step == other.step else None,
        integer=_is_whole(one) and _is_whole(other),
        when={},
    )


def _numbers(parameter: Parameter) -> Iterator[float]:
    """Yields the ends of a range, or the choices, which must be numbers: other arms search a range of them."""
    for value in parameter.corners():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield value
        elif value is not None:
            message = "is no number, and another arm searches a range"
            raise InputError(f"question.arms: {parameter.path}", value, message, "give numbers, or choices in all arms")


def _is_whole(parameter: Parameter) -> bool:
    if parameter.choices:
        return all(isinstance(number, int) for number in _numbers(parameter))
    return parameter.integer


def _distinct(values: Sequence[Scalar]) -> Iterator[Scalar]:
    seen: list[tuple[type, Scalar]] = []
    for value in values:
        if (type(value), value) not in seen:
            seen.append((type(value), value))
            yield value
