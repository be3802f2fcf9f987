"""Ten runs of differing recipes, all bitwise the same in a new process: `pytest -m soak`, some minutes."""

from pathlib import Path
from typing import Any

import pytest

from experiments import Store, load_config, run
from experiments.errors import Interrupted
from experiments.reproduction.reproduce import Settings, reproduce
from experiments.tracking.runs import list_runs, resolve_one
from experiments.training.epochs import Epoch
from sweeps import load_sweep
from sweeps import run as run_sweep

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

FLIPS = {"data.augmentation.horizontal_flip": True}
SHIFTS = {"data.augmentation.shift": 2}
ONE_CYCLE = {"optimizer.kind": "adamw", "optimizer.weight_decay": 0.05, "optimizer.schedule.kind": "one_cycle"}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits as they are": ("digits", {}),
    "digits, SGD, two threads, shifts": ("digits", {"optimizer.kind": "sgd", "trainer.threads": 2} | SHIFTS),
    "digits, AdamW one-cycle, best weights": ("digits", {"trainer.weights": "best", "trainer.threads": 1} | ONE_CYCLE),
    "digits, RMSprop, whole train split": ("digits", {"optimizer.kind": "rmsprop", "data.batch_size": "full"}),
    "Fashion-MNIST as it is": ("fashion_mnist", {"trainer.max_epochs": 1, "trainer.threads": 2}),
    "Fashion-MNIST, AdamW, flips": (
        "fashion_mnist",
        {"trainer.max_epochs": 2, "trainer.threads": 1} | FLIPS | ONE_CYCLE,
    ),
    "Fashion-MNIST, SGD, mse, shifts": (
        "fashion_mnist",
        {"trainer.max_epochs": 1, "trainer.threads": 2, "optimizer.kind": "sgd", "model.loss": "mse"} | SHIFTS,
    ),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("soak"))


def assert_bitwise(store: Store, run_id: str) -> None:
    result = reproduce(store, run_id, Settings())
    assert (result.verdict, result.first_difference, result.reason) == ("bitwise", None, "")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe(store: Store, real_data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATA", str(real_data))
    recipe, overrides = RECIPES[name]
    assert_bitwise(store, run(load_config(recipe, overrides), name=name, store=store).run_id)


def test_a_resumed_run(store: Store) -> None:
    def interrupt(epoch: Epoch) -> None:
        if epoch.number == 6:
            raise Interrupted("SIGINT")

    config = load_config("digits", ONE_CYCLE | SHIFTS)
    with pytest.raises(Interrupted):
        run(config, name="resumed", store=store, observers=[interrupt])
    begun = resolve_one(store, "resumed").run_id
    assert run(config, name="resumed", store=store, resume=begun).outcome == "finished"
    assert_bitwise(store, begun)


def test_a_sweep_s_champion_and_its_pruned_trials(store: Store) -> None:
    run_sweep(load_sweep("digits", {"trainer.max_epochs": 6, "finalists": {}}), store=store)
    trials = list_runs(store, sweep="digits")
    assert_bitwise(store, resolve_one(store, "digits:champion").run_id)
    assert_bitwise(store, next(trial.run_id for trial in trials if trial.outcome == "pruned"))
