"""All global generators go back to where they were, by way of a checkpoint that loads without pickle."""

import random
from pathlib import Path

import numpy as np
import torch

from experiments.training.random_state import get_random_state, set_random_state


def draws() -> list[float]:
    return [random.gauss(), random.random(), float(np.random.normal()), float(np.random.rand()), float(torch.rand(()))]


def test_every_generator_goes_on_from_where_it_was(tmp_path: Path) -> None:
    random.gauss()  # Python and NumPy keep the second of two Gaussian draws for the next call
    np.random.normal()
    torch.save(get_random_state(), tmp_path / "state")
    expected = draws()
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draws() == expected
