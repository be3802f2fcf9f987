"""A server of the digits' run, and the images that it was tested with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments import load_config
from lightning_modules import ImageDataModule
from tests.experiments.serving.servers import Serving, serving


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 (360, 8, 8): the test images of the digits, as the source gives them."""
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    test = data.splits["test"]
    return test.images[test.indices][..., 0]


@pytest.fixture(scope="module")
def digits(digits_store: Path) -> Iterator[Serving]:
    """The run `first`, served. Tests only ask it."""
    with serving(digits_store, "first") as server:
        yield server
