"""Slots, without training: what counts, what is tried again, and that many processes end with the exact total."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from experiments import Store
from experiments.tracking.tracked_run import Outcome
from lightning_modules import InputError
from sweeps import load_sweep
from sweeps.strategy.budget import counts
from sweeps.study.search import Search
from sweeps.study.stage import Claim, settle

SearchOf = Callable[..., Search]

WORKER = """
import sys
from experiments import Store
from experiments.provenance.gather import code_for
from sweeps import load_sweep
from sweeps.study.stage import settle
from sweeps.study.search import Search
store, sweep = Store.open(sys.argv[1]), load_sweep("digits", {"budget.trials": 15})
with Search.open(store, sweep, "data", code_for(sweep.base, store)) as search:
    while taken := search.claim():
        settle(search.study, taken.trial, "finished", value=0.5)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture
def search_of(request: pytest.FixtureRequest, store: Store, open_search: Callable[..., Search]) -> SearchOf:
    """Opens the search of the digits sweep with another total, named after the test."""

    def open_one(trials: int, name: str = request.node.name, data: str = "data", **overrides: object) -> Search:
        return open_search(store, load_sweep("digits", {"budget.trials": trials} | overrides, name=name), data)

    return open_one


def end_all(search: Search, outcomes: list[Outcome]) -> list[Claim]:
    """Claims and ends one trial after another with the given outcomes, then with `finished`."""
    claims = []
    while taken := search.claim():
        outcome = outcomes.pop(0) if outcomes else "finished"
        settle(search.study, taken.trial, outcome, value=0.5 if outcome == "finished" else None)
        claims.append(taken)
    return claims


def test_finished_pruned_and_failed_trials_fill_their_slots(search_of: SearchOf) -> None:
    claims = end_all(search_of(4), ["pruned", "failed"])
    assert [taken.trial.user_attrs["slot"] for taken in claims] == [0, 1, 2, 3]
    search = search_of(4)
    assert Counter(trial.state for trial in filter(counts, search.trials())) == {
        TrialState.PRUNED: 1,
        TrialState.FAIL: 1,
        TrialState.COMPLETE: 2,
    }


@pytest.mark.parametrize("outcome", ["died", "interrupted"])
def test_a_trial_that_did_not_end_by_itself_is_tried_again_with_its_parameters_and_seed(
    search_of: SearchOf, outcome: Outcome
) -> None:
    first, second, *_ = end_all(search_of(2), [outcome])
    assert (second.trial.user_attrs["slot"], second.params, second.seed) == (
        first.trial.user_attrs["slot"],
        first.params,
        first.seed,
    )
    assert sum(map(counts, search_of(2).trials())) == 2


def test_after_its_retries_a_slot_gets_new_parameters_and_keeps_its_seed(search_of: SearchOf) -> None:
    claims = end_all(search_of(1, retries=2), ["died", "died", "died"])
    assert [taken.params == claims[0].params for taken in claims] == [True, True, True, False]
    assert {taken.seed for taken in claims} == {claims[0].seed}


def test_an_interrupted_trial_costs_no_retry(search_of: SearchOf) -> None:
    claims = end_all(search_of(1, retries=0), ["interrupted", "interrupted"])
    assert all(taken.params == claims[0].params for taken in claims)


def test_a_running_trial_keeps_its_slot(search_of: SearchOf) -> None:
    search = search_of(2)
    taken = [search.claim() for _ in range(3)]
    assert [one and one.trial.user_attrs["slot"] for one in taken] == [0, 1, None]


def test_a_sweep_cut_in_two_draws_what_the_whole_one_draws(search_of: SearchOf) -> None:
    in_one = end_all(search_of(14, name="whole"), [])
    in_two = end_all(search_of(5), []) + end_all(search_of(14), [])
    assert [taken.params for taken in in_two] == [taken.params for taken in in_one]
    assert len({str(taken.params) for taken in in_one}) == 14


def test_workers_that_start_together_in_a_fresh_store_end_with_the_exact_total(
    tmp_path: Path, open_search: Callable[..., Search]
) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "store")]) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    search = open_search(Store.open(tmp_path / "store"), load_sweep("digits", {"budget.trials": 15}))
    assert len(search.trials()) == 15
    assert sorted(trial.user_attrs["slot"] for trial in search.trials()) == list(range(15))


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"trainer.max_epochs": 3}, "trainer.max_epochs"), ({"objective.metric": "val/loss"}, "metric")],
)
def test_a_started_sweep_refuses_other_settings_and_names_the_difference(
    search_of: SearchOf, changed: dict[str, object], field: str
) -> None:
    search_of(2)
    if "objective.metric" in changed:
        changed = changed | {"objective.direction": "minimize"}
    with pytest.raises(InputError, match="--name") as caught:
        search_of(2, **changed)
    assert caught.value.field == field


def test_a_started_sweep_refuses_other_data(search_of: SearchOf) -> None:
    search_of(2)
    with pytest.raises(InputError, match=r"^data:"):
        search_of(2, data="other data")


def test_a_started_sweep_takes_another_budget_sampler_and_pruner(search_of: SearchOf) -> None:
    end_all(search_of(2), [])
    changed = {"pruner.kind": "none", "sampler.kind": "quasi_random"}
    assert [taken.trial.user_attrs["slot"] for taken in end_all(search_of(3, **changed), [])] == [2]


def test_a_started_sweep_refuses_other_constraints(search_of: SearchOf) -> None:
    search_of(2)
    with pytest.raises(InputError, match=r"^constraints\.seconds: .*--name"):
        search_of(2, **{"constraints.seconds": 5.0})


def test_a_sweep_started_before_a_field_existed_goes_on_with_its_default_alone(search_of: SearchOf) -> None:
    study = search_of(2).study
    identity = dict(study.user_attrs["identity"])
    del identity["data.val_fraction"]
    study.set_user_attr("identity", identity)
    search_of(2)
    with pytest.raises(InputError, match=r"^data\.val_fraction: .*--name"):
        search_of(2, **{"data.val_fraction": 0.2})


def test_with_shared_seeds_all_trials_have_one_seed_and_points_of_their_own(search_of: SearchOf) -> None:
    shared = end_all(search_of(4, seeds="shared"), [])
    own = end_all(search_of(4, name="own", seeds="per_trial"), [])
    assert len({taken.seed for taken in shared}) == 1
    assert len({taken.seed for taken in own}) == 4
    assert [taken.params for taken in shared] == [taken.params for taken in own]


def test_a_started_sweep_keeps_its_seeds(search_of: SearchOf) -> None:
    first = end_all(search_of(2, seeds="shared"), [])
    assert [taken.seed for taken in end_all(search_of(3), [])] == [first[0].seed]
    with pytest.raises(InputError, match=r"^seeds: .*--name"):
        search_of(3, seeds="per_trial")


def test_a_sweep_started_before_there_were_shared_seeds_keeps_a_seed_for_each_trial(search_of: SearchOf) -> None:
    study = search_of(2).study
    identity = dict(study.user_attrs["identity"])
    del identity["seeds"]
    study.set_user_attr("identity", identity)
    assert len({taken.seed for taken in end_all(search_of(4), [])}) == 4
    with pytest.raises(InputError, match=r"^seeds: .*--name"):
        search_of(4, seeds="shared")
