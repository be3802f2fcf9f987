from pathlib import Path

import pytest

from benchmarks.search.record import TASKS, record
from benchmarks.search.table import pack, read_table
from experiments import Store, run
from sweeps import load_sweep


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two trials."""
    record(TASKS["digits"], tmp_path / "table.jsonl", 2, tmp_path / "scratch")
    return tmp_path / "table.jsonl"


def test_a_recorded_trial_has_the_numbers_of_a_tracked_one(recorded: Path, tmp_path: Path) -> None:
    row = read_table(recorded)[0]
    config = load_sweep("digits").trial_config(row.params, row.seed)
    result = run(config, store=Store.open(tmp_path / "store"), read_test=False)
    assert row.accuracy[-1] == pytest.approx(result.metrics["val/accuracy"], abs=1e-6)
    assert row.loss[-1] == pytest.approx(result.metrics["val/loss"], abs=1e-6)


def test_it_continues_after_it_was_stopped_within_a_line(recorded: Path, tmp_path: Path) -> None:
    before = read_table(recorded)
    text = recorded.read_text()
    recorded.write_text(text + text.splitlines()[0][:50])
    record(TASKS["digits"], recorded, 3, tmp_path / "scratch")
    rows = read_table(recorded)
    assert rows[:2] == before
    assert [row.trial for row in rows] == [0, 1, 2]
    pack(rows, tmp_path / "packed.jsonl.xz")
    assert read_table(tmp_path / "packed.jsonl.xz") == rows
