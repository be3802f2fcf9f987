"""Which checkpoints a finished run keeps."""

from pathlib import Path
from typing import get_args

import pytest

from experiments import Store, load_config, run
from experiments.config import KeepCheckpoints, Weights
from experiments.errors import Interrupted
from experiments.tracking.runs import find_runs
from experiments.training.epochs import Epoch
from experiments.training.kept import superfluous

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


@pytest.mark.parametrize(
    ("keep", "weights", "is_finalist", "dropped"),
    [
        ("kept", "last", False, set()),
        ("kept", "best", False, {LAST}),
        ("none", "best", False, {LAST, BEST}),
        ("none", "best", True, {LAST}),
        ("none", "last", False, {LAST}),
        ("none", "last", True, set()),
        ("all", "best", False, set()),
        ("all", "last", True, set()),
    ],
)
def test_what_goes(keep: KeepCheckpoints, weights: Weights, is_finalist: bool, dropped: set[str]) -> None:
    assert superfluous(keep, weights, is_finalist=is_finalist) == dropped


@pytest.mark.parametrize(
    ("keep", "left"), [("none", []), ("kept", ["best.ckpt"]), ("all", ["best.ckpt", "last.ckpt"])], ids=str
)
def test_a_finished_run_keeps_what_its_recipe_says(keep: str, left: list[str], scratch_store: Store) -> None:
    assert keep in get_args(KeepCheckpoints)
    fields = {"trainer.max_epochs": 1, "trainer.threads": 1, "trainer.weights": "best"}
    result = run(load_config("digits", fields | {"trainer.keep_checkpoints": keep}), store=scratch_store)
    folder = Path(result.artifact_uri.removeprefix("file://"))
    assert sorted(path.name for path in (folder / "checkpoints").glob("*")) == left
    assert (folder / "checkpoints").exists() == bool(left)
    assert not (folder / "removed.json").exists()  # nothing has gone since the run was closed


def test_a_run_that_is_interrupted_keeps_what_a_resume_needs(scratch_store: Store) -> None:
    def interrupt(epoch: Epoch) -> None:
        raise Interrupted("SIGINT")

    fields = {"trainer.max_epochs": 2, "trainer.threads": 1, "trainer.weights": "best"}
    config = load_config("digits", fields | {"trainer.keep_checkpoints": "none"})
    with pytest.raises(Interrupted):
        run(config, store=scratch_store, name="stopped", observers=[interrupt])
    (stopped,) = find_runs(scratch_store, "attributes.run_name = 'stopped'")
    folder = Path(stopped.info.artifact_uri.removeprefix("file://"))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert run(config, store=scratch_store, resume=stopped.info.run_id).outcome == "finished"
    assert not (folder / "checkpoints").exists()
