"""Twenty networks as people write them: each trains, is logged, answers and reproduces bit by bit, or is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import Store, load_config, run
from experiments.reproduction.reproduce import Settings, reproduce
from lightning_modules import ImageDataModule, InputError

FILE = Path(__file__).with_name("networks_as_people_write_them.py")

TRAINED = [
    *("View", "Length", "Asserts", "BranchesOnData", "Dropout", "BatchNorm", "LSTMOverRows", "Transformer"),
    *("WithLambda", "SharedWeights", "CustomAutograd", "Prints", "Buffers", "Lazy", "compiled", "factory"),
]
REFUSED = {
    "WrongWidth": r"model.network: answers 64 images with shape \(64, 11\), not \(64, 10\) .*one logit for each",
    "WrongChannels": r"layer 0 \(Conv2d\) got \(64, 1, 8, 8\), wants \(N, 3, H, W\): .*; set data.channels to 3",
    "NaNAtOnce": r"model.network: the loss of the first batch is nan",
    "NoParameters": r"model.network: has no parameters to train",
    "NeedsAnArgument": r"model.network_args.width: is missing",
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe beside the networks' file."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, FILE.stem, raising=False)
    (tmp_path / FILE.name).write_text(FILE.read_text())
    path = tmp_path / "own.yaml"
    # 1,293 images of train: with batches of 64, 20 of them and one of 13.
    path.write_text("data: {source: digits, batch_size: 64}\ntrainer: {max_epochs: 1, threads: 1}\n")
    return path


def config_of(recipe: Path, network: str) -> Any:
    return load_config(str(recipe), {"model.network": f"{FILE.stem}.{network}"})


@pytest.mark.parametrize("network", TRAINED)
def test_a_network_trains_is_logged_answers_and_reproduces(
    network: str,
    store: Store,
    recipe: Path,
    load_model: Callable[[Path | str], Any],
    rerun_in_process: None,
) -> None:
    result = run(config_of(recipe, network), store=store)
    assert result.outcome == "finished"
    artifacts = Path(result.artifact_uri.removeprefix("file://"))
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    test = data.splits["test"]
    predictions = dict(np.load(artifacts / "predictions.npz"))
    answer = load_model(artifacts / "model").predict(test.images[test.indices][..., 0])
    assert answer["label"].tolist() == predictions["test_label"].tolist()
    assert np.allclose(answer["probabilities"], predictions["test_probabilities"], atol=1e-5)
    assert reproduce(store, result.run_id, Settings()).verdict == "bitwise"


@pytest.mark.parametrize("network", REFUSED)
def test_what_cannot_work_is_refused_before_a_run_exists(network: str, store: Store, recipe: Path) -> None:
    before = store.client.search_runs(["0", "1"])
    with pytest.raises(InputError, match=REFUSED[network]):
        run(config_of(recipe, network), store=store)
    assert len(store.client.search_runs(["0", "1"])) == len(before)
