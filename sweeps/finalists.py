"""The top k configurations again over several seeds; the test set is read once a seed, for the champion alone."""

import math
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments import runner
from experiments.config import sign_of
from experiments.runs import children
from experiments.statistics import Estimate, estimate
from experiments.store import Store
from lightning_modules.datasets import ImageDataset
from sweeps.config import Sweep
from sweeps.space import describe


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial's configuration over fresh seeds: its validation scores, one run a seed; NaN where a run diverged."""

    number: int
    params: dict[str, Any]
    values: list[float]
    run_ids: list[str]

    @property
    def is_sound(self) -> bool:
        """Whether no seed diverged: others cannot become champion."""
        return all(math.isfinite(value) for value in self.values)

    @property
    def score(self) -> Estimate:
        return estimate(self.values)


def run_finalists(
    store: Store, study: optuna.Study, sweep: Sweep, *, parent: str, dataset: ImageDataset
) -> list[Finalist]:
    """Runs what is missing of the finalists, and tests the first of them: the champion. Best mean first."""
    finalists = [
        _run_seeds(store, sweep, trial, parent=parent, dataset=dataset)
        for trial in best_trials(study)[: sweep.config.finalists.top]
    ]
    sign = sign_of(sweep.config.objective.metric)
    finalists.sort(key=lambda finalist: (not finalist.is_sound, -sign * finalist.score.mean))
    for run_id in finalists[0].run_ids if finalists and finalists[0].is_sound else []:
        data = store.client.get_run(run_id).data
        if "test/accuracy" not in data.metrics or data.tags.get("workbench.outcome") != "finished":
            runner.read_test(store, run_id, dataset=dataset)
    return finalists


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Completed trials, best value first; of equal ones the earlier."""
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))


def _run_seeds(store: Store, sweep: Sweep, trial: FrozenTrial, *, parent: str, dataset: ImageDataset) -> Finalist:
    values, run_ids = [], []
    for index in range(sweep.config.finalists.seeds):
        seed = sweep.seed("finalist", index)  # the same seeds for all finalists, none of them a trial's
        run_id, value = _finished(store, parent, trial.number, seed)
        if run_id is None:
            result = runner.run(
                sweep.trial_config(trial.params, seed),
                name=f"finalist {describe(trial.params)} #{index + 1}",
                kind="finalist",
                store=store,
                parent=parent,
                tags={
                    "workbench.sweep": sweep.name,
                    "workbench.trial": str(trial.number),
                    "workbench.seed": str(seed),
                },
                dataset=dataset,
                read_test=False,
            )
            run_id, value = result.run_id, result.value
        values.append(math.nan if value is None else value)
        run_ids.append(run_id)
    return Finalist(number=trial.number, params=dict(trial.params), values=values, run_ids=run_ids)


def _finished(store: Store, parent: str, number: int, seed: int) -> tuple[str | None, float | None]:
    """The run of this finalist and seed that an earlier start of the sweep trained, and its value; None: it failed."""
    tags = {"workbench.kind": "finalist", "workbench.trial": str(number), "workbench.seed": str(seed)}
    for run in children(store, parent, tags):
        if "value" in run.data.metrics:
            return run.info.run_id, run.data.metrics["value"]
        if run.data.tags.get("workbench.outcome") == "failed":
            return run.info.run_id, None
    return None, None
