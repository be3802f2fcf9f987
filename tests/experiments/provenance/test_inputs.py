"""Which files count as inputs of a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import Store, load_config, run
from experiments.code.snapshot import PROJECT
from experiments.training.epochs import Epoch
from lightning_modules.images.remembered import remembered

BY_ANOTHER = """
import sys
from pathlib import Path
from lightning_modules.images.remembered import remembered
remembered("key", lambda: "its value")
Path(sys.argv[1]).write_text("a file that the run reads")
"""


def test_a_file_that_is_read_is_an_input_but_not_what_is_remembered(
    scratch_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notes = tmp_path / "notes.txt"
    subprocess.run([sys.executable, "-c", BY_ANOTHER, str(notes)], check=True, cwd=PROJECT)

    def read_both(epoch: Epoch) -> None:
        assert notes.read_text() == "a file that the run reads"
        assert remembered("key", lambda: "ours") == "its value"

    ended = run(load_config("digits", {"trainer.max_epochs": 1}), store=scratch_store, observers=[read_both])
    folder = scratch_store.files_folder(scratch_store.client.get_run(ended.run_id).info)
    files = [Path(file["path"]) for file in json.loads((folder / "provenance.json").read_text())["inputs"]["files"]]
    assert "notes.txt" in {file.name for file in files}
    assert [file for file in files if "cache" in file.parts] == []
