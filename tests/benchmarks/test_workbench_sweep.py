from pathlib import Path

import optuna

from benchmarks.textbook_optuna import LEARNING_RATES
from benchmarks.workbench_sweep import sweep
from experiments import Store, load_config
from tests.stock import stock_storage


def test_it_trains_what_the_textbook_trains(tmp_path: Path) -> None:
    """Every learning rate once, to its end, and one of them once more."""
    accuracy = sweep(load_config("digits", {"trainer.max_epochs": 1}), tmp_path)
    storage = stock_storage(tmp_path)
    search, finalists = sorted(optuna.get_all_study_names(storage))
    assert finalists == f"{search} finalists"
    trials = optuna.load_study(study_name=search, storage=storage).trials
    assert [trial.params for trial in trials] == [{"optimizer.lr": rate} for rate in LEARNING_RATES]
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    runs = Store.open(tmp_path).client.search_runs(["1"], "attributes.status = 'FINISHED'")
    kinds = [run.data.tags["workbench.kind"] for run in runs]
    assert sorted(kinds) == ["finalist", "sweep", *["trial"] * len(LEARNING_RATES)]
    assert accuracy in {run.data.metrics.get("test/accuracy") for run in runs}
