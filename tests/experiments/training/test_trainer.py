"""Every argument of Lightning's Trainer is a field of the config, or is refused with a reason; the docs list both."""

import inspect
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

from experiments import load_config
from experiments.config import TrainerConfig
from experiments.lightning_arguments import REFUSED
from experiments.training.trainer import make_trainer
from lightning_modules import InputError

ROOT = Path(__file__).parents[3]
ARGUMENTS = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
FIELDS = set(TrainerConfig.__dataclass_fields__)


def test_every_argument_is_a_field_or_is_refused() -> None:
    assert REFUSED.keys() == ARGUMENTS - FIELDS


def test_the_docs_list_every_argument() -> None:
    page = (ROOT / "docs/own_task.md").read_text().partition("## Arguments of Lightning's Trainer")[2]
    prose, _, table = page.partition("|---|---|\n")
    assert set(re.findall(r"`(\w+)`", prose)) - {"trainer"} == ARGUMENTS & FIELDS
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)) == REFUSED


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_argument_says_why(name: str) -> None:
    with pytest.raises(InputError, match="cannot be set") as refused:
        load_config("digits", {f"trainer.{name}": 2})
    assert refused.value.remedy == REFUSED[name]


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [("min_epochs", 3, "fit_loop.min_epochs"), ("log_every_n_steps", 7, "log_every_n_steps")],
)
def test_an_argument_reaches_the_trainer(name: str, value: int, attribute: str) -> None:
    found: object = make_trainer(load_config("digits", {f"trainer.{name}": value}))
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == value
