"""The tree of errors: what each carries, its line, and its exit code."""

import pickle
from pathlib import Path
from typing import Literal

import pytest

from experiments.errors import CannotRun, OutOfMemoryError, StoreError
from lightning_modules.config import section
from lightning_modules.errors import InputError, WorkbenchError
from sweeps.errors import CopyError, SweepStoppedError

ERRORS = [
    (
        InputError("optimizer.lr", -1, "must be above 0", "try 0.001"),
        "optimizer.lr: must be above 0 (got -1); try 0.001",
        2,
    ),
    (CannotRun("it still runs", "wait"), "it still runs; wait", 1),
    (SweepStoppedError("all failed"), "all failed", 1),
    (OutOfMemoryError("no memory", "lower data.batch_size"), "no memory; lower data.batch_size", 1),
]


@pytest.mark.parametrize(("error", "line", "code"), ERRORS)
def test_an_error_is_one_line_and_has_its_exit_code(error: WorkbenchError, line: str, code: int) -> None:
    assert (str(error), error.exit_code) == (line, code)
    assert str(pickle.loads(pickle.dumps(error))) == line  # as it travels from a worker


def test_the_errors_of_stores_name_where_and_what_to_do() -> None:
    assert str(StoreError(Path("/runs"), "disk full")).startswith("--store: /runs failed: disk full; fix the cause")
    assert str(CopyError("/to", "disk full")).startswith(
        "store copy: the copy to /to failed and stored no rows: disk full; fix"
    )


@section("optimizer")
class Kinds:
    kind: Literal["adam", "sgd"] = "adam"


def test_bad_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="no such choice") as caught:
        Kinds(kind="adamm")  # type: ignore[arg-type]
    assert isinstance(caught.value, InputError)
    assert caught.value.remedy == "did you mean 'adam'? choose from adam, sgd"
