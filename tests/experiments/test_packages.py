"""Networks of torchvision and timm, where WORKBENCH_VISION names a folder that holds the two:

pip install --target FOLDER --no-deps torchvision==0.28.0 timm==1.0.31
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import Store, load_config, run
from experiments.reproduction.reproduce import Settings, reproduce
from lightning_modules import ImageDataModule, InputError

FOLDER = os.environ.get("WORKBENCH_VISION", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="needs torchvision and timm in the folder WORKBENCH_VISION")

RESNET18 = {"model.network": "torchvision.models.resnet18", "data.channels": 3}
RESNET10T = {
    "model.network": "timm.create_model",
    "model.network_args": {"model_name": "resnet10t"},
    "data.image_size": 32,
}
VIT = {
    "model.network": "timm.create_model",
    "model.network_args": {"model_name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 2},
    "data.image_size": 32,
}


@pytest.fixture(scope="module", autouse=True)
def _operators() -> Iterator[None]:
    """Declares torchvision's operators, which a CPU build of torch lacks: its import registers them all."""
    registered = Path(FOLDER, "torchvision", "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in set(re.findall(r'register_meta\("(\w+)"\)|torchvision::(\w+)', registered)):
        library.define(f"{name[0] or name[1]}(Tensor a) -> Tensor")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield
    del library


@pytest.mark.parametrize("fields", [RESNET18, RESNET10T, VIT], ids=["resnet18", "resnet10t", "vit"])
def test_a_network_of_a_package_trains_answers_and_reproduces(
    fields: dict[str, Any], store: Store, load_model: Callable[[str], Any], rerun_in_process: None
) -> None:
    config = load_config("digits", {"trainer.max_epochs": 1, "trainer.threads": 1, **fields})
    result = run(config, store=store)
    assert result.outcome == "finished"
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    test = data.splits["test"]
    predictions = dict(np.load(Path(result.artifact_uri.removeprefix("file://")) / "predictions.npz"))
    answer = load_model(f"{result.artifact_uri}/model").predict(test.images[test.indices][:40, ..., 0])
    assert answer["label"].tolist() == predictions["test_label"][:40].tolist()
    assert reproduce(store, result.run_id, Settings()).verdict == "bitwise"


def test_gray_images_for_a_network_of_three_channels_are_told(store: Store) -> None:
    with pytest.raises(
        InputError, match=r"layer conv1 \(Conv2d\) got .*, wants \(N, 3, H, W\): .*set data.channels to 3"
    ):
        run(load_config("digits", {"model.network": "torchvision.models.resnet18"}), store=store)
