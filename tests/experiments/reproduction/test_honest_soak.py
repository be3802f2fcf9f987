"""Sixty honest runs of mixed recipes, with somebody editing files that they have loaded: no alarm. `pytest -m soak`."""

import itertools
import random
from pathlib import Path

import pytest

from experiments import Store
from tests.projects import answer, copy_project, start

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

NET = """
from torch import nn

from wb_scale import scale

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        return super().forward(scale(images))
"""
CHOICES = {
    "--model.network": ["BaselineCNN", "wb_net.Net"],
    "--optimizer.kind": ["sgd", "adam", "adamw", "rmsprop"],
    "--optimizer.schedule.kind": ["constant", "cosine", "one_cycle"],
    "--data.augmentation.shift": ["0", "1"],
    "--data.normalization": ["per_pixel", "min_max"],
    "--trainer.threads": ["1", "2"],
    "--trainer.weights": ["last", "best"],
    "--data.batch_size": ["32", "full"],
    "--seed": ["0", "1", "2"],
}
EDITED = ("wb_net.py", "wb_scale.py", "experiments/runner.py", "lightning_modules/classifier.py", "README.txt")


def test_nobody_is_accused(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    (project / "wb_net.py").write_text(NET)
    (project / "wb_scale.py").write_text("def scale(images):\n    return 1.0 * images\n")
    (project / "README.txt").write_text("mine\n")
    draw = random.Random(0)
    store = Store.open(project / "mlruns")
    ids = []
    for number in range(60):
        words = itertools.chain.from_iterable((name, draw.choice(values)) for name, values in CHOICES.items())
        process = start(project, "train", "digits", *words, "--trainer.max_epochs", "3")
        assert process.stderr is not None
        first = next(line for line in process.stderr if line.startswith("epoch 1/"))  # by now all of it is loaded
        before = {name: (project / name).read_text() for name in EDITED}
        for name in EDITED:
            (project / name).write_text(f"{before[name]}# edit {number}\n")
        _, said = process.communicate()
        assert process.returncode == 0, first + said
        newest = store.client.search_runs(["1"], max_results=1)[0]
        ids.append(newest.info.run_id)
        assert newest.data.tags["workbench.record"] == "complete", newest.data.tags
    results = answer(project, "reproduce", *ids)["results"]
    assert [(result["verdict"], result["record"]["state"]) for result in results] == [("bitwise", "complete")] * 60
