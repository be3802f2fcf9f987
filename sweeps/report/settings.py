"""What a sweep searches and how, in words: for the params and the description of its own run in MLflow."""

from dataclasses import asdict
from typing import Any

from experiments.tracking.tracked_run import as_param
from sweeps.config import Sweep
from sweeps.strategy.space import Parameter


def fixed(sweep: Sweep) -> dict[str, str]:
    """Returns what stays the same while a sweep can be continued: space, objective, limits, seeds and start."""
    config = sweep.config
    space = {
        f"space.{parameter.path}": _in_words(parameter) + _only_in(sweep, parameter)
        for parameter in sweep.space.parameters
    }
    objective = {"objective.metric": config.objective.metric, "objective.direction": config.objective.direction}
    limits = {f"constraints.{name}": f"{limit:g}" for name, limit in vars(config.constraints).items() if limit}
    start: dict[str, str] = {"seeds": "shared"} if config.seeds == "shared" else {}
    if config.start.points:
        start["start.points"] = str(len(config.start.points))
    if config.start.sweep is not None:
        start["start.sweep"] = f"the best {config.start.top} trials of {config.start.sweep}"
    question: dict[str, str] = {}
    if sweep.has_question:
        compared = ", ".join(config.question.fields) or "arms"
        question["question"] = f"{compared}: {' or '.join(dict.fromkeys(arm.name for arm in sweep.arms))}"
    return space | question | objective | limits | start


def effort(sweep: Sweep) -> dict[str, str]:
    """Returns what a later start may change: how long and how the sweep searches, and its finalists."""
    config = sweep.config
    budget, finalists = config.budget, config.finalists
    limits = [
        f"{budget.target} trials" if budget.target else "",
        f"{budget.hours:g} hours" if budget.hours else "",
        f"{budget.no_improvement} trials without a better value" if budget.no_improvement else "",
    ]
    own = ", and the recipe's own settings" if finalists.baseline else ""
    if sweep.has_question:
        limits = [f"{budget.target} trials, of which each arm gets the same number"]
        limits += [f"in each of {config.question.repeats} repeats"] if config.question.repeats > 1 else []
    best = "the best of each arm" if sweep.has_question else f"the best {finalists.top}"
    decided = {"question.decided_on": config.question.decide} if sweep.has_question else {}
    return decided | {
        "budget": (", " if sweep.has_question else " or ").join(filter(None, limits)),
        "sampler": _kind(config.sampler),
        "pruner": _kind(config.pruner),
        "finalists": f"{best}{own}; seeds of each: {finalists.seeds}",
    }


def _in_words(parameter: Parameter) -> str:
    """Returns the values of a searched field, and its condition: `0.0001 to 0.1, log`, `32 or 64`."""
    if parameter.choices:
        values = " or ".join(map(as_param, parameter.choices))
    else:
        values = f"{parameter.low:g} to {parameter.high:g}"
        values += ", log" if parameter.log else f" in steps of {parameter.step:g}" if parameter.step else ""
        values += ", whole numbers" if parameter.integer and not parameter.step else ""
    conditions = [f"{parent} is {' or '.join(map(as_param, wanted))}" for parent, wanted in parameter.when.items()]
    return f"{values}, if {' and '.join(conditions)}" if conditions else values


def _only_in(sweep: Sweep, parameter: Parameter) -> str:
    """Returns the arms that search a field, if not all do."""
    having = [arm.name for arm in sweep.arms if any(each.path == parameter.path for each in arm.space.parameters)]
    return "" if len(having) == len(sweep.arms) else f", in {' and '.join(dict.fromkeys(having))}"


def _kind(settings: Any) -> str:
    """Returns the kind of a sampler or pruner, followed by those of its settings that are given."""
    given = {name: value for name, value in asdict(settings).items() if name != "kind" and value is not None}
    return ", ".join([settings.kind, *(f"{name} {value}" for name, value in given.items())])
