"""For tests of what a command prints: a terminal of 80 columns, and its lines."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import workbench

COLUMNS = 80


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Runs a command on a terminal of 80 columns, and returns the lines that it prints to standard output."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "dumb")  # no bold letters

    def run(*words: str | Path, code: int = 0) -> list[str]:
        capsys.readouterr()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert workbench.main([str(word) for word in words]) == code
        return capsys.readouterr().out.splitlines()

    return run
