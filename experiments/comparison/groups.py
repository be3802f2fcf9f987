"""Groups of runs, such as one configuration over several seeds: their mean score with its confidence interval."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.comparison.differences import Row, does_differ
from experiments.comparison.objective import Objective
from experiments.comparison.statistics import estimate, overlap_of_folds
from experiments.config import NOT_COMPARED
from experiments.tracking.runs import RunSummary
from lightning_modules.errors import InputError, choose_from

_MAX_VALUE = 40  # how many characters of a value a group's name shows


@dataclass(frozen=True)
class Group:
    """Runs that have a score, ordered by seed and fold. If a run was repeated, only the newest counts."""

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
    def places(self) -> list[tuple[str, str]]:
        """The seed of each run, and its fold; `null` outside of a cross-validation."""
        return [(run.params.get("seed", ""), run.params.get("data.fold", "null")) for run in self.runs]

    @property
    def has_folds(self) -> bool:
        """Whether the runs are folds of one cross-validation: each has other training and validation images."""
        return len({fold for _, fold in self.places}) > 1 and len({self._folds(run) for run in self.runs}) == 1

    @property
    def overlap(self) -> float:
        """n_val / n_train of a cross-validation, by which intervals and tests are corrected; otherwise 0."""
        return overlap_of_folds(int(self._folds(self.runs[0]))) if self.has_folds else 0.0

    @staticmethod
    def _folds(run: RunSummary) -> str:
        return run.params.get("data.folds", "null")

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "metric": self.objective.logged,
            "run_ids": [run.run_id for run in self.runs],
            "values": self.scores,
            "sd": float(np.std(self.scores, ddof=1)) if len(self.runs) > 1 else None,
            "overlap": self.overlap,
            **vars(estimate(self.scores, overlap=self.overlap).within(self.objective.metric.bounds)),
        }


def group_by_param(runs: Sequence[RunSummary], param: str, objective: Objective) -> list[Group]:
    """Returns a group for each value of `param`, best mean first. Raises InputError if no run has that param."""
    if not any(param in run.params for run in runs):
        choices = choose_from(param, {name for run in runs for name in run.params})
        raise InputError("--group-by", param, "is not a param of these runs", choices)
    return _groups(runs, lambda run: run.params.get(param), lambda run: f"{param}={run.params.get(param)}", objective)


def group_by_seed(runs: Sequence[RunSummary], rows: Sequence[Row], objective: Objective) -> list[Group]:
    """Returns groups of runs that differ only in the seed, best mean first. `rows`: all their differences.

    Trials and finalists form separate groups: a trial's score helped to make its configuration a finalist. The runs of
    repeats, over seeds or folds, form one group; none if one of them failed: the mean of the others would be too good.
    """
    named = _names_of_repeats(runs)
    failed = failed_repeats(runs, objective)
    runs = [run for run in runs if run.parent_run_id not in failed]
    differing = [row for row in rows if row["field"] != "seed" and does_differ(row)]
    has_kinds = len({run.kind for run in runs}) > 1

    def key(run: RunSummary) -> Hashable:
        if run.parent_run_id in named:
            return run.parent_run_id
        return run.kind, *(str(row["values"].get(run.run_id)) for row in differing)

    def name(run: RunSummary) -> str:
        if run.parent_run_id in named:
            return named[run.parent_run_id]
        values = [f"{row['field']}={str(row['values'].get(run.run_id))[:_MAX_VALUE]}" for row in differing]
        return ", ".join([*([run.kind] if has_kinds else []), *values]) or "all"

    return _groups(runs, key, name, objective)


def failed_repeats(runs: Sequence[RunSummary], objective: Objective) -> dict[str, str]:
    """Returns the names of the repeats of which a run failed and has no score, by the ids of their runs."""
    failed = {run.parent_run_id for run in runs if run.outcome == "failed" and objective.score(run) is None}
    return {parent: name for parent, name in _names_of_repeats(runs).items() if parent in failed}


def _names_of_repeats(runs: Sequence[RunSummary]) -> dict[str, str]:
    """Returns the name of each repeats that runs belong to, by the id of its run; with that id if others have it."""
    found = {run.parent_run_id: run.sweep for run in runs if run.kind == "repeat"}
    shared = [*found.values()]
    return {each: f"{name} ({each[:8]})" if shared.count(name) > 1 else name for each, name in found.items()}


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
    found = [Group(name(next(iter(same.values()))), _in_order(same.values()), objective) for same in members.values()]
    return sorted(found, key=lambda group: -objective.metric.sign * group.mean)


def _in_order(runs: Iterable[RunSummary]) -> list[RunSummary]:
    """Sorts runs by seed, then by fold."""
    numbers = ("seed", "data.fold")
    return sorted(runs, key=lambda run: [(len(text), text) for text in (run.params.get(name, "") for name in numbers)])
