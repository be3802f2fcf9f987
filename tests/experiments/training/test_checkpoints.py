"""Checkpoints that a run is resumed from."""

from pathlib import Path

import pytest

from experiments.process.setup import prepare_process
from experiments.training.checkpoints import epochs_done

CHECKPOINT = "checkpoints/last.ckpt"


@pytest.mark.parametrize("content", [b"", b"PK", bytes(1000)])
def test_a_damaged_checkpoint_counts_as_none_and_is_named(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_process()
    (tmp_path / CHECKPOINT).parent.mkdir()
    (tmp_path / CHECKPOINT).write_bytes(content)
    assert epochs_done(tmp_path) == 0
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"{tmp_path / CHECKPOINT} is damaged (")
    assert line.endswith("training starts again from the first epoch")


def test_a_run_without_a_checkpoint_has_no_epochs(tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == 0
