"""A study that this sweep did not make is refused with the difference, and nothing is written to it."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from experiments import Store
from experiments.provenance.gather import code_for
from lightning_modules import InputError
from sweeps import Sweep
from sweeps.study.finalists import Finals
from sweeps.study.storage import Storage, database_of

if TYPE_CHECKING:
    from tests.sweeps.conftest import Untrained

SPACE = "space: {optimizer.lr: {low: 0.1, high: 0.9}, data.batch_size: [8, 16]}\nbudget: {trials: 2}"
LR = FloatDistribution(0.1, 0.9)

Prepare = Callable[[optuna.storages.BaseStorage], None]


def study(database: optuna.storages.BaseStorage, name: str = "test", direction: str = "maximize") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=database, direction=direction)


def with_trial(made: optuna.Study, distribution: FloatDistribution = LR, **attributes: object) -> None:
    made.add_trial(
        create_trial(
            value=0.99,
            params={"optimizer.lr": 0.5},
            distributions={"optimizer.lr": distribution},
            user_attrs=attributes,
        )
    )


def of_another_program(database: optuna.storages.BaseStorage) -> None:
    study(database).optimize(lambda trial: trial.suggest_float("lr", 0.0, 1.0), n_trials=3)


def of_another_space(database: optuna.storages.BaseStorage) -> None:
    with_trial(study(database), FloatDistribution(0.001, 0.9), slot=0)


def of_the_same_space(database: optuna.storages.BaseStorage) -> None:
    with_trial(study(database))


def of_another_direction(database: optuna.storages.BaseStorage) -> None:
    study(database, direction="minimize")


def of_several_objectives(database: optuna.storages.BaseStorage) -> None:
    optuna.create_study(study_name="test", storage=database, directions=["maximize", "minimize"])


def with_attributes(database: optuna.storages.BaseStorage) -> None:
    study(database).set_user_attr("contributors", ["somebody"])


def finalists_of_another_program(database: optuna.storages.BaseStorage) -> None:
    with_trial(study(database, "test finalists"))


def finalists_of_a_deleted_search(database: optuna.storages.BaseStorage) -> None:
    with_trial(study(database, "test finalists"), place=[7, 0])


def a_search_of_the_finalists_name(database: optuna.storages.BaseStorage) -> None:
    study(database, "test finalists").set_user_attr("identity", {})


def contents(store: Store) -> list[str]:
    with closing(sqlite3.connect(store.folder / "optuna.db")) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize(
    ("prepare", "difference"),
    [
        (of_another_program, "its trial 0 has the parameter lr, which this sweep does not search"),
        (of_another_space, "its trial 0 searched optimizer.lr in [0.001, 0.9], this sweep in [0.1, 0.9]"),
        (of_the_same_space, "it has trials, but no record of a sweep"),
        (of_another_direction, "it was made to minimize, and this sweep is to maximize"),
        (of_several_objectives, "it was made to maximize and minimize"),
        (with_attributes, "it has the attribute contributors, but no record of a sweep"),
        (finalists_of_another_program, "its trial 0 is not the run of a finalist"),
        (finalists_of_a_deleted_search, "its trial 0 is a finalist of trial 7, which the search does not have"),
        (a_search_of_the_finalists_name, "it has the attribute identity, as finalists never have"),
    ],
)
def test_a_foreign_study_is_refused_and_left_as_it_is(
    untrained: "Untrained", prepare: Prepare, difference: str
) -> None:
    with Storage(untrained.store).open() as database:
        prepare(database)
    before = contents(untrained.store)
    with pytest.raises(InputError, match=r"^--name: .*choose another --name") as caught:
        untrained.search(untrained.sweep(SPACE))
    assert difference in str(caught.value)
    assert contents(untrained.store) == before


def test_a_trial_that_another_program_added_to_a_sweep_is_refused(untrained: "Untrained") -> None:
    untrained.run(untrained.sweep(SPACE))
    with_trial(untrained.search(untrained.sweep(SPACE)).study)
    with pytest.raises(InputError, match="its trial 2 was not run by a sweep"):
        untrained.search(untrained.sweep(SPACE))


def test_finalists_with_other_parameters_than_the_search_are_refused(untrained: "Untrained") -> None:
    sweep = untrained.sweep(SPACE)
    untrained.run(sweep)
    database = database_of(untrained.search(sweep).study)
    with_trial(study(database, "test finalists"), place=[0, 0])
    with pytest.raises(InputError, match="its trial 0 is a finalist of trial 0, but has other parameters"):
        untrained.search(sweep)


def test_a_study_that_a_killed_process_has_just_made_is_gone_on_with(untrained: "Untrained") -> None:
    with Storage(untrained.store).open() as database:
        made = study(database)
        made.set_user_attr("start", [])
        made.set_user_attr("code", {})
    assert len(untrained.run(untrained.sweep(SPACE))) == 2


def test_own_finalists_are_gone_on_with_whatever_became_of_them(untrained: "Untrained") -> None:
    sweep = untrained.sweep(f"{SPACE}\nfinalists: {{top: 2, seeds: 2, baseline: true}}")
    untrained.run(sweep)
    states = [TrialState.COMPLETE, TrialState.FAIL]
    for state in states:
        with finals_of(untrained.store, sweep) as finals:
            taken = finals.claim()
            assert taken is not None
            finals.study.tell(taken.trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
    with finals_of(untrained.store, sweep) as finals:
        assert [trial.state for trial in finals.trials()] == states


def finals_of(store: Store, sweep: Sweep) -> AbstractContextManager[Finals]:
    return Finals.open(store, sweep, "data", code_for(sweep.base, store))


def test_a_study_of_several_objectives_is_no_warm_start(untrained: "Untrained") -> None:
    with Storage(untrained.store).open() as database:
        optuna.create_study(study_name="pareto", storage=database, directions=["maximize", "minimize"])
    with pytest.raises(InputError, match=r"^start\.sweep: is no sweep: its study has several objectives"):
        untrained.search(untrained.sweep(f"{SPACE}\nstart: {{sweep: pareto}}"))
