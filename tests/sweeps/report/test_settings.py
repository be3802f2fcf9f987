"""What a sweep searches, in words."""

from typing import TYPE_CHECKING

from sweeps.report.settings import effort, fixed

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

SPACE = """
space:
  optimizer.kind: [sgd, adamw]
  optimizer.lr: {low: 0.0001, high: 0.1, log: true}
  optimizer.momentum: {low: 0.0, high: 0.9, when: {optimizer.kind: sgd}}
  model.network_args.hidden: {low: 64, high: 512, step: 64}
  optimizer.schedule.warmup_fraction: {low: 0.0, high: 0.2, step: 0.05}
constraints: {seconds: 600}
budget: {trials: 30, hours: 1.5}
sampler: {kind: tpe, startup_trials: 5}
finalists: {top: 3, seeds: 2, baseline: true}
"""


def test_space_and_limits_are_said_in_words(untrained: "Untrained") -> None:
    assert fixed(untrained.sweep(SPACE)) == {
        "space.optimizer.kind": "sgd or adamw",
        "space.optimizer.lr": "0.0001 to 0.1, log",
        "space.optimizer.momentum": "0 to 0.9, if optimizer.kind is sgd",
        "space.model.network_args.hidden": "64 to 512 in steps of 64",
        "space.optimizer.schedule.warmup_fraction": "0 to 0.2 in steps of 0.05",
        "objective.metric": "val/accuracy",
        "objective.direction": "maximize",
        "constraints.seconds": "600",
    }


def test_budget_sampler_pruner_and_finalists_are_said_in_words(untrained: "Untrained") -> None:
    assert effort(untrained.sweep(SPACE)) == {
        "budget": "30 trials or 1.5 hours",
        "sampler": "tpe, startup_trials 5",
        "pruner": "median",
        "finalists": "the best 3, and the recipe's own settings; seeds of each: 2",
    }
