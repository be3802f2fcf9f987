import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pairs import measure_pairs
from benchmarks.results import keep
from benchmarks.unfinished import Unfinished

NAME = "textbook PyTorch, no tracking, 1 thread"


def row(name: str = NAME, ratio: float = 1.7, epochs: int = 2) -> dict[str, Any]:
    """A comparison of goal 1.8, on 54,000 images."""
    measured = {"ratio": ratio, "spread": [1.6, 1.8], "pairs": 7, "seconds": [10.0, 17.0], "peak_mb": [900.0, 1200.0]}
    limit = {"matrix_gflops": 100.0, "share_of_compute_limit": 0.25}
    return {"name": name, "goal": 1.8, "met": ratio >= 1.8, "images": 54_000, "epochs": epochs} | measured | limit


def cells(folder: Path, name: str) -> list[str]:
    """The cells of the one line of results.md that begins with `name`."""
    lines = [line for line in (folder / "results.md").read_text().splitlines() if line.startswith(f"| {name} |")]
    assert len(lines) == 1
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


def test_a_ratio_is_the_median_over_pairs_and_the_first_pair_only_warms_up() -> None:
    ours = iter([50.0, 1.0, 2.0, 4.0])
    theirs = iter([1.0, 3.0, 4.0, 4.0])
    measured = measure_pairs(lambda: {"seconds": next(ours)}, lambda: {"seconds": next(theirs)}, 3)
    assert measured["ratio"] == 2.0  # of 3, 2 and 1
    assert measured["spread"] == (1.5, 2.5)
    assert measured["seconds"] == [2.0, 4.0]


def test_who_goes_first_alternates() -> None:
    order = ""

    def side(letter: str) -> dict[str, Any]:
        nonlocal order
        order += letter
        return {"seconds": 1.0}

    measure_pairs(lambda: side("a"), lambda: side("b"), 3)
    assert order == "abbaabba"


def test_a_row_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, other = Unfinished(tmp_path, "a row, 100 × 2"), Unfinished(tmp_path, "a row, 100 × 10")
    theirs = iter([9.0, 3.0, 4.0])  # the third pair has no end

    def cut_off() -> dict[str, Any]:
        for seconds in theirs:
            return {"seconds": seconds}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_pairs(lambda: {"seconds": 1.0}, cut_off, 3, kept)
    assert [pair[1]["seconds"] for pair in kept.pairs] == [3.0, 4.0]
    assert other.pairs == []
    assert capsys.readouterr().err.splitlines() == [
        "  pair 1 of 3: 3.00, median 3.00",
        "  pair 2 of 3: 4.00, median 3.50",
    ]
    later = iter([9.0, 5.0])  # one to warm up, and the one that is missing
    measured = measure_pairs(lambda: {"seconds": 1.0}, lambda: {"seconds": next(later)}, 3, kept)
    assert measured["ratio"] == 4.0
    assert measured["pairs"] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_row_replaces_its_earlier_self_and_leaves_those_of_other_sizes(tmp_path: Path) -> None:
    other = "textbook PyTorch, no tracking, 2 threads"
    keep(tmp_path, "comparisons", row())
    keep(tmp_path, "comparisons", row(other, epochs=10))
    keep(tmp_path, "comparisons", row(ratio=1.9))
    assert cells(tmp_path, NAME)[1:4] == ["1.90", "1.60–1.80", "≥ 1.80: met"]
    assert cells(tmp_path, NAME)[6:8] == ["25% of 100 GFLOP/s", "54,000 × 2"]
    assert cells(tmp_path, other)[3] == "≥ 1.80: missed"
    assert cells(tmp_path, other)[7] == "54,000 × 10"
    kept = json.loads((tmp_path / "results.json").read_text())["comparisons"]
    assert [r["ratio"] for r in kept] == [1.9, 1.7]
    assert kept[0]["machine"].keys() == {"cpu", "cores", "torch", "pytorch-lightning"}


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    keep(tmp_path, "comparisons", row())
    assert cells(tmp_path, "the seed's Keras code, 2 threads")[1:4] == ["not measured", "", "≥ 1.50"]
    assert cells(tmp_path, "captured steps, batch 32")[1:4] == ["not measured", "", "≥ 8.00"]
    assert "## Accuracy on test\n\nnot measured\n" in (tmp_path / "results.md").read_text()


def test_a_gpu_row_says_if_its_steps_were_not_captured(tmp_path: Path) -> None:
    measured = {"ratio": 1.1, "spread": [1.0, 1.2], "pairs": 3, "seconds": [1.0, 1.1], "peak_mb": [300.0, 90.0]}
    measured |= {"name": "captured steps, batch 32", "goal": 8.0, "met": False, "images": 18_000, "epochs": 3}
    measured |= {"first": 2.0, "uncaptured": "it waits", "source": "random", "device": "H200"}
    keep(tmp_path, "gpu", measured | {"images_per_second": [18_000.0, 16_000.0]})
    name = "captured steps, batch 32 (not captured: it waits)"
    assert cells(tmp_path, name)[1:6] == ["1.10", "1.00–1.20", "≥ 8.00: missed", "18,000 / 16,000", "2 s"]


def test_a_peak_of_memory_stands_beside_its_limit(tmp_path: Path) -> None:
    name, other = "a tracked run of one epoch on Fashion-MNIST", "a tracked run of 200 steps over a .npy of 6 GB"
    keep(tmp_path, "memory", {"name": name, "limit_gb": 1.0, "peak_gb": 0.874, "met": True, "seconds": 9.6})
    assert cells(tmp_path, name)[1:5] == ["0.87", "≤ 1.0: met", "10", "1"]
    assert cells(tmp_path, other)[1:3] == ["not measured", "≤ 1.5"]
