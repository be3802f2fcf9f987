"""A loaded model is laid out for batches where that changes nothing but the time."""

from pathlib import Path

import numpy as np

from experiments import Store, load_config, run
from experiments.serving.loaded import LoadedModel, load_model

# `view` fails for a tensor with channels last.
NETWORK = """
from torch import nn

class Viewing(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv = nn.Conv2d(shape[0], 4, 3)
        self.output = nn.Linear(4 * (shape[1] - 2) * (shape[2] - 2), classes)

    def forward(self, images):
        maps = self.conv(images)
        return self.output(maps.view(maps.shape[0], -1))
"""


def strides(model: LoadedModel) -> tuple[int, ...]:
    """Of the weights of the model's first convolution."""
    weights = [each for each in model.pyfunc.unwrap_python_model().program.parameters() if each.ndim == 4]
    return tuple(weights[0].stride())


def test_a_network_gets_channels_last_and_keeps_its_answers(digits_store: Path, images: np.ndarray) -> None:
    model = load_model(Store.open(digits_store), "first")
    before = model.answer(images)
    model.use_channels_last()
    assert strides(model) == (9, 1, 3, 1)  # of (32, 1, 3, 3): the channel is the last axis
    after = model.answer_checked(images)
    assert after["label"].tolist() == before["label"].tolist()
    assert np.allclose(after["probabilities"], before["probabilities"], atol=1e-5)


def test_a_network_that_cannot_have_it_stays_as_it_is(store: Store, tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "wb_viewing.py").write_text(NETWORK)
    recipe = tmp_path / "viewing.yaml"
    recipe.write_text("experiment: viewing\ndata: {source: digits}\nmodel: {network: wb_viewing.Viewing}\n")
    run(load_config(str(recipe), {"trainer.max_epochs": 1, "trainer.threads": 1}), name="viewing", store=store)
    model = load_model(store, "viewing")
    before, laid_out = model.answer(images), strides(model)
    model.use_channels_last()
    assert strides(model) == laid_out
    assert np.array_equal(model.answer_checked(images)["probabilities"], before["probabilities"])
