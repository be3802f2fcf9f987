"""Where a progress bar is shown."""

import subprocess
import sys

import pytest

PROGRAM = """
from rich.progress import BarColumn
from experiments.process.progress import progress_bar
print(progress_bar(BarColumn()))
"""


def test_a_pipe_gets_no_bar_even_if_colours_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in what the kernel of a notebook starts
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("None\n", "")
