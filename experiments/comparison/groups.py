"""Groups of runs, such as one configuration over several seeds: their mean score with its confidence interval."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.comparison.differences import Row, does_differ
from experiments.comparison.objective import Objective
from experiments.comparison.statistics import estimate
from experiments.config import NOT_COMPARED
from experiments.tracking.runs import RunSummary
from lightning_modules.errors import InputError, choose_from

_MAX_VALUE = 40  # how many characters of a value a group's name shows


@dataclass(frozen=True)
class Group:
    """Runs that have a score, ordered by seed. If a run was repeated, only the newest counts."""

    name: str
    runs: Sequence[RunSummary]
    objective: Objective

    @property
    def scores(self) -> list[float]:
        return [value for run in self.runs if (value := self.objective.score(run)) is not None]

    @property
    def has_all_scores(self) -> bool:
        return len(self.scores) == len(self.runs)

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def seeds(self) -> list[str]:
        return [run.params.get("seed", "") for run in self.runs]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "metric": self.objective.logged,
            "run_ids": [run.run_id for run in self.runs],
            "values": self.scores,
            "sd": float(np.std(self.scores, ddof=1)) if len(self.runs) > 1 else None,
            **vars(estimate(self.scores).within(self.objective.metric.bounds)),
        }


def group_by_param(runs: Sequence[RunSummary], param: str, objective: Objective) -> list[Group]:
    """Returns a group for each value of `param`, best mean first. Raises InputError if no run has that param."""
    if not any(param in run.params for run in runs):
        choices = choose_from(param, {name for run in runs for name in run.params})
        raise InputError("--group-by", param, "is not a param of these runs", choices)
    return _groups(runs, lambda run: run.params.get(param), lambda run: f"{param}={run.params.get(param)}", objective)


def group_by_seed(runs: Sequence[RunSummary], rows: Sequence[Row], objective: Objective) -> list[Group]:
    """Returns groups of runs that differ only in the seed, best mean first. `rows`: all their differences.

    Trials and finalists form separate groups: a trial's score helped to make its configuration a finalist.
    """
    differing = [row for row in rows if row["field"] != "seed" and does_differ(row)]
    has_kinds = len({run.kind for run in runs}) > 1

    def key(run: RunSummary) -> Hashable:
        return run.kind, *(str(row["values"].get(run.run_id)) for row in differing)

    def name(run: RunSummary) -> str:
        values = [f"{row['field']}={str(row['values'].get(run.run_id))[:_MAX_VALUE]}" for row in differing]
        return ", ".join([*([run.kind] if has_kinds else []), *values]) or "all"

    return _groups(runs, key, name, objective)


def _groups(
    runs: Iterable[RunSummary],
    key: Callable[[RunSummary], Hashable],
    name: Callable[[RunSummary], str],
    objective: Objective,
) -> list[Group]:
    members: dict[Hashable, dict[Hashable, RunSummary]] = {}
    for run in sorted(runs, key=lambda run: run.start_time):
        if objective.score(run) is not None:
            config = frozenset(item for item in run.params.items() if item[0] not in NOT_COMPARED)
            members.setdefault(key(run), {})[config] = run
    found = [Group(name(next(iter(same.values()))), _by_seed(same.values()), objective) for same in members.values()]
    return sorted(found, key=lambda group: -objective.metric.sign * group.mean)


def _by_seed(runs: Iterable[RunSummary]) -> list[RunSummary]:
    return sorted(runs, key=lambda run: (len(run.params.get("seed", "")), run.params.get("seed", "")))
