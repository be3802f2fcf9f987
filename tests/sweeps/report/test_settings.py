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


def test_a_question_is_told_with_its_arms_and_what_decides(untrained: "Untrained") -> None:
    lines = "space:\n  optimizer.kind: [sgd, adam]\n"
    lines += "  optimizer.momentum: {low: 0.5, high: 0.9, when: {optimizer.kind: sgd}}\n"
    lines += "question: {compare: optimizer.kind, decide: test, repeats: 2}\n"
    sweep = untrained.sweep(f"{lines}budget: {{trials: 6}}\nfinalists: {{seeds: 2}}")
    assert fixed(sweep)["question"] == "optimizer.kind: sgd or adam"
    assert fixed(sweep)["space.optimizer.momentum"] == "0.5 to 0.9, in sgd"
    told = effort(sweep)
    assert told["question.decided_on"] == "test"
    assert told["budget"] == "6 trials, of which each arm gets the same number, in each of 2 repeats"
    assert told["finalists"] == "the best of each arm; seeds of each: 2"
