"""Replays: tables of a few trials, worked out by hand, and a real sweep from the command line."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pytest
import yaml
from optuna.trial import TrialState

from experiments import Store, load_config
from experiments.artifact_names import CONFIG
from experiments.tracking.runs import find_sweep
from lightning_modules import InputError
from lightning_modules.metrics import Direction
from sweeps import load_sweep, repeat, run
from sweeps.replay import Played, Recorded, orders, played, replay, sentences
from sweeps.strategy.pruners import PrunerConfig, make_pruner
from sweeps.study.own_run import own_run
from tests.stores import copy_store_folder

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

Workbench = Callable[..., "subprocess.CompletedProcess[str]"]
MEDIAN = PrunerConfig(kind="median", startup_trials=2)


def trial(*scores: float, pruned: bool = False) -> Recorded:
    by_epoch = dict(enumerate(scores, start=1))
    return Recorded(by_epoch, TrialState.PRUNED) if pruned else Recorded(by_epoch, TrialState.COMPLETE, scores[-1])


def play(trials: list[Recorded], pruner: PrunerConfig = MEDIAN, direction: Direction = "maximize") -> Played:
    return played(trials, make_pruner(pruner, 3), direction, study="sweep")


def test_four_trials_under_median_pruning() -> None:
    """The first two complete. Their medians are 0.4 after one epoch, 0.5 after two.

    The third starts below 0.4 and ends there, though it would have been the best. The fourth, which the sweep pruned
    after two epochs, is above 0.4, and then below 0.5: this pruner stops it there as well.
    """
    trials = [trial(0.5, 0.6, 0.7), trial(0.3, 0.4, 0.5), trial(0.35, 0.6, 0.8), trial(0.45, 0.46, pruned=True)]
    assert play(trials) == Played(best=0.7, epochs=3 + 3 + 1 + 2, pruned=2, unknown=0)
    # In another order the best one completes. The medians are then 0.425 and 0.6.
    assert play([trials[2], trials[0], trials[1], trials[3]]) == Played(
        best=0.8, epochs=3 + 3 + 1 + 2, pruned=2, unknown=0
    )


def test_lower_scores_may_be_better() -> None:
    trials = [trial(0.5, 0.4, 0.3), trial(0.7, 0.6, 0.5), trial(0.65, 0.4, 0.2)]
    assert play(trials, direction="minimize") == Played(best=0.3, epochs=3 + 3 + 1, pruned=1, unknown=0)


def test_where_a_pruned_trial_would_continue_it_ends_and_is_counted() -> None:
    trials = [trial(0.5, 0.6, 0.7), trial(0.3, 0.4, 0.5), trial(0.45, pruned=True), trial(0.1, pruned=True)]
    assert play(trials) == Played(best=0.7, epochs=3 + 3 + 1 + 1, pruned=2, unknown=1)
    assert play(trials, PrunerConfig(kind="none")) == Played(best=0.7, epochs=8, pruned=2, unknown=2)


def test_trials_that_failed_spend_their_epochs_and_are_never_best() -> None:
    failed = Recorded({1: 0.9}, TrialState.FAIL)
    assert play([failed, trial(0.5, 0.6, 0.7)]) == Played(best=0.7, epochs=4, pruned=0, unknown=0)
    assert play([failed]) == Played(best=None, epochs=1, pruned=0, unknown=0)


def test_a_trial_that_broke_a_limit_would_continue_under_no_pruner() -> None:
    limited = Recorded({1: 0.9}, TrialState.PRUNED, is_limited=True)
    assert play([limited, trial(0.5, 0.6, 0.7)], PrunerConfig(kind="none")).unknown == 0


def test_hyperband_decides_the_same_again() -> None:
    trials = [trial(number / 100, number / 90, number / 80) for number in range(30)]
    first, second = (play(trials, PrunerConfig(kind="hyperband")) for _ in range(2))
    assert first == second


def test_with_a_sampler_that_learns_trials_change_places_only_within_blocks() -> None:
    trials = [trial(number / 100) for number in range(25)]
    learning = orders(trials, 10)
    assert all(set(map(id, order[:10])) == set(map(id, trials[:10])) for order in learning)
    assert len({tuple(map(id, order)) for order in learning}) == len(learning)
    assert any(trials[24] in order[:10] for order in orders(trials, None))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a sweep of four trials over digits."""
    folder = tmp_path_factory.mktemp("store")
    small = {"budget.trials": 4, "trainer.max_epochs": 3, "pruner.kind": "none", "finalists.top": 1}
    run(load_sweep("digits", small | {"finalists.seeds": 1, "finalists.baseline": False}), store=Store.open(folder))
    return folder


def test_as_it_was_recorded_a_sweep_finds_the_same(swept: Path) -> None:
    document = replay(Store.open(swept), "digits", {}).as_dict()
    assert document["recorded"]["epochs"] == 12
    assert document["replayed"]["best"] == pytest.approx(document["recorded"]["best"])
    assert document["epochs_saved"] == 0
    assert document["found_the_same"] == 1


def test_fewer_trials_find_less_and_save_their_epochs(swept: Path) -> None:
    document = replay(Store.open(swept), "digits", {"budget.trials": 2, "pruner.kind": "none"}).as_dict()
    assert document["replayed"]["in_order"] == {
        "best": document["replayed"]["in_order"]["best"],
        "epochs": 6,
        "pruned": 0,
        "unknown": 0,
    }
    assert document["epochs_saved_ci95"] == (6, 6)
    assert document["replayed"]["ci95"][0] <= document["replayed"]["best"] + 1e-9 <= document["recorded"]["best"] + 2e-9


def test_the_command_says_what_is_not_known(swept: Path, tmp_path: Path, workbench: Workbench) -> None:
    store = copy_store_folder(swept, tmp_path / "store")
    words = ("replay", "digits", "--store", store, "--pruner.kind", "top_k", "--pruner.keep", "1")
    document = json.loads(workbench(*words, "--json").stdout)
    assert document["epochs_saved"] > 0
    assert "95 %" in workbench(*words).stdout
    refused = workbench("replay", "digits", "--store", store, "--sampler.kind", "gp")
    assert refused.returncode == 2
    assert "does not know their scores" in refused.stderr


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"sampler.kind": "random"}, "sampler.kind"),
        ({"budget.trials": 5}, "budget.trials"),
        ({"budget.hours": 5}, "budget.hours"),
        ({"optimizer.lr": 5}, "optimizer.lr"),
        ({"pruner.kind": "hyperband", "pruner.min_epochs": 4}, "pruner.min_epochs"),
        ({"pruner.kind": "median", "pruner.keep": 4}, "pruner.keep"),
    ],
)
def test_what_a_replay_cannot_know_is_refused(swept: Path, overrides: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        replay(Store.open(swept), "digits", overrides)
    assert caught.value.field == field


def test_a_sweep_with_a_question_is_refused(swept: Path) -> None:
    store = Store.open(swept)
    config = Path(urlparse(find_sweep(store, "digits").info.artifact_uri).path) / CONFIG
    text = config.read_text()
    config.write_text(yaml.safe_dump(yaml.safe_load(text) | {"question": {"compare": "optimizer.kind"}}))
    try:
        with pytest.raises(InputError, match=r"^SWEEP: has a question"):
            replay(store, "digits", {})
    finally:
        config.write_text(text)


def test_a_sweep_with_pruned_trials_says_that_they_are_censored() -> None:
    document = {
        "sweep": "mine", "metric": "val/accuracy", "direction": "maximize", "pruner": {"kind": "none"},
        "recorded": {"best": 0.9, "trials": 4, "epochs": 9, "pruned": 2},
        "replayed": {
            "best": 0.9, "ci95": (0.9, 0.9), "trials": 4,
            "in_order": {"best": 0.9, "epochs": 9, "pruned": 2, "unknown": 2},
        },
        "epochs_saved": 0.0, "epochs_saved_ci95": (0, 0), "found_the_same": 1.0, "block": 10,
    }  # fmt: skip
    assert "2 trials were pruned in the sweep where this pruner would let them continue" in sentences(document)[-1]


def test_without_a_number_of_trials_all_are_played(swept: Path) -> None:
    assert replay(Store.open(swept), "digits", {"budget.trials": None}).replayed["trials"] == 4


@pytest.mark.parametrize(
    ("sampler", "block"),
    [
        ("kind: tpe", 10),
        ("kind: tpe, startup_trials: 1", 10),
        ("kind: gp, startup_trials: 20", 20),
        ("kind: cmaes", 6),  # 4 + 3 ln 2, rounded down
        ("kind: cmaes, population: 5", 5),
        ("kind: random", None),
    ],
)
def test_how_many_neighbours_change_places(untrained: "Untrained", sampler: str, block: int | None) -> None:
    """A sampler learns from every trial, or CMA-ES from every generation."""
    lines = "space: {optimizer.lr: {low: 0.01, high: 0.1}, optimizer.weight_decay: {low: 0.0, high: 0.1}}\n"
    sweep = untrained.sweep(f"{lines}budget: {{trials: 8}}\nsampler: {{{sampler}}}")
    untrained.run(sweep, score=lambda point: point["optimizer.lr"])
    search = untrained.search(sweep)
    with own_run(search, "sweep") as tracked:
        tracked.path(CONFIG).write_text(yaml.safe_dump(search.sweep.config_tree()))
    found = replay(untrained.store, "test", {"budget.trials": 2})
    assert found.block == block
    low, high = found.replayed["ci95"]
    assert low < high


def test_repeats_are_no_sweep(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    repeat(load_config("digits", {"trainer.max_epochs": 1}), seeds=2, name="twice", store=store)
    with pytest.raises(InputError, match="is no sweep but repeats"):
        replay(store, "twice", {})
