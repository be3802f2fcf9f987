"""Pruners: after which epoch they stop trials whose learning curves are given."""

from typing import TYPE_CHECKING

import pytest

from lightning_modules import InputError
from sweeps import Sweep
from sweeps.study.stage import settle

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

SPACE = "space: {optimizer.lr: {low: 0.1, high: 0.9}}"


def epochs_run(untrained: "Untrained", sweep: Sweep, curves: list[list[float]]) -> list[int]:
    """Gives one trial after another its curve; how many epochs the pruner let each run."""
    search = untrained.search(sweep)
    epochs = []
    for curve in curves:
        taken = search.claim()
        assert taken is not None
        for epoch, value in enumerate(curve, start=1):
            taken.trial.report(value, step=epoch)
            if epoch < len(curve) and taken.trial.should_prune():
                settle(search.study, taken.trial, "pruned")
                break
        else:
            settle(search.study, taken.trial, "finished", value=curve[-1])
        epochs.append(epoch)
    return epochs


@pytest.mark.parametrize(
    ("pruner", "levels", "expected"),
    [
        ("{kind: none}", [0.5, 0.4, 0.3], [4, 4, 4]),
        # The median of 0.5 and 0.6 is 0.55.
        ("{kind: median, startup_trials: 2}", [0.5, 0.6, 0.54, 0.56], [4, 4, 1, 4]),
        ("{kind: median, startup_trials: 2, warmup_epochs: 3}", [0.5, 0.6, 0.54], [4, 4, 3]),
        # The best quarter of 0.5 and 0.6 begins at 0.575.
        ("{kind: percentile, startup_trials: 2, percentile: 25}", [0.5, 0.6, 0.57, 0.58], [4, 4, 1, 4]),
        # The best half goes on, after one epoch and after two: 0.4 is the worse of two; the second 0.5 is among
        # the best two of four after one epoch, and not the best one of three after two.
        ("{kind: successive_halving, reduction_factor: 2}", [0.5, 0.4, 0.6, 0.5], [4, 1, 4, 2]),
        # The best two so far go on, those that were stopped count too: 0.5 has three above it, the last 0.6 has two.
        ("{kind: top_k, keep: 2}", [0.4, 0.6, 0.7, 0.5, 0.8, 0.6, 0.9], [4, 4, 4, 1, 4, 1, 4]),
        ("{kind: top_k, keep: 1, min_epochs: 3}", [0.5, 0.4, 0.5], [4, 3, 4]),
    ],
)
def test_a_trial_is_stopped_by_what_others_scored(
    untrained: "Untrained", pruner: str, levels: list[float], expected: list[int]
) -> None:
    sweep = untrained.sweep(f"{SPACE}\npruner: {pruner}\noverrides: {{trainer.max_epochs: 4}}")
    assert epochs_run(untrained, sweep, [[level] * 4 for level in levels]) == expected


def test_patience_ends_a_trial_that_has_not_improved(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}\npruner: {{kind: patience, patience: 1, min_delta: 0.05}}")
    falling, rising, level = [0.5, 0.4, 0.4, 0.4], [0.1, 0.2, 0.3, 0.4], [0.5, 0.48, 0.48, 0.48]
    assert epochs_run(untrained, sweep, [falling, rising, level]) == [3, 4, 4]


def test_hyperband_stops_trials_at_powers_of_its_factor_up_to_the_longest_trial(untrained: "Untrained") -> None:
    space = "space: {trainer.max_epochs: {low: 3, high: 9}}"
    sweep = untrained.sweep(f"{space}\npruner: {{kind: hyperband, reduction_factor: 3}}")
    epochs = epochs_run(untrained, sweep, [[0.9 - 0.01 * trial] * 9 for trial in range(12)])
    assert set(epochs) == {1, 3, 9}  # three brackets: they begin after 1, 3 and 9 epochs


@pytest.mark.parametrize(
    ("pruner", "field", "words"),
    [
        ("{kind: hyperbnd}", "pruner.kind", "did you mean 'hyperband'"),
        ("{kind: hyperband, min_epochs: 16}", "pruner.min_epochs", "15"),
        ("{kind: top_k, min_epochs: 16}", "pruner.min_epochs", "15"),
        ("{kind: median, keep: 3}", "pruner.keep", "top_k"),
        ("{kind: patience, startup_trials: 3}", "pruner.startup_trials", "median"),
        ("{kind: percentile, percentile: 101}", "pruner.percentile", "100"),
        ("{kind: successive_halving, reduction_factor: 1}", "pruner.reduction_factor", "2 or more"),
    ],
)
def test_a_pruner_that_cannot_work_is_refused_before_any_trial(
    untrained: "Untrained", pruner: str, field: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        untrained.sweep(f"{SPACE}\npruner: {pruner}")
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_recipes_pruner_is_switched_off_whatever_its_settings(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}\npruner: {{kind: median, startup_trials: 1}}", **{"pruner.kind": "none"})
    assert epochs_run(untrained, sweep, [[0.9] * 4, [0.1] * 4]) == [4, 4]
