"""A process of many runs, such as a notebook: what is edited between two runs is recorded as each of them ran."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments import Store, load_config, run
from experiments.code.code_store import CodeStore
from tests.projects import copy_project, work_in

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, {width}), nn.Linear({width}, num_classes))
"""
MODULES = ("wb_again", "wb_new")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project in whose folder this process works, with a network of the user's."""
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    work_in(project, monkeypatch)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (project / "wb_again.py").write_text(NET.format(width=8))
    yield project
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def recorded(project: Path, store: Store) -> Callable[[str], tuple[dict[str, Any], dict[str, str]]]:
    """Trains with a network; returns the state of the record, and what the record has of the user's files."""

    def train(network: str) -> tuple[dict[str, Any], dict[str, str]]:
        fields = {"model.network": network, "trainer.max_epochs": 1, "trainer.threads": 1}
        result = run(load_config("digits", fields), store=store)
        told = json.loads(Path(result.artifact_uri.removeprefix("file://"), "provenance.json").read_text())
        code = CodeStore(store.folder)
        files = dict(code.read(code.tree(told["code"]["commit"])))
        return told["record"], {name: files[f"{name}.py"].content.decode() for name in MODULES if f"{name}.py" in files}

    return train


def test_each_run_is_recorded_with_what_it_had_loaded(
    project: Path, recorded: Callable[[str], tuple[dict[str, Any], dict[str, str]]]
) -> None:
    complete = {"state": "complete", "problems": []}
    old, new = NET.format(width=8), NET.format(width=24)
    assert recorded("wb_again.Net") == (complete, {"wb_again": old})
    (project / "wb_again.py").write_text(new)
    assert recorded("wb_again.Net") == (complete, {"wb_again": old})  # Python still has the old one
    importlib.reload(sys.modules["wb_again"])
    assert recorded("wb_again.Net") == (complete, {"wb_again": new})
    (project / "wb_new.py").write_text(old)
    assert recorded("wb_new.Net") == (complete, {"wb_again": new, "wb_new": old})


def test_a_patch_by_autoreload_makes_a_record_unknown(
    project: Path, recorded: Callable[[str], tuple[dict[str, Any], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPython's %autoreload runs the parts of a file that have changed, some of them under no file's name."""
    unknown, path = {"state": "unknown", "problems": []}, project / "wb_again.py"
    recorded("wb_again.Net")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "IPython.extensions.autoreload", ModuleType("autoreload"))
        path.write_text(NET.format(width=24))
        assert recorded("wb_again.Net")[0] == unknown
    exec(compile("class Patched: pass", path, "exec"))
    assert recorded("wb_again.Net")[0] == unknown
    importlib.reload(sys.modules["wb_again"])
    assert recorded("wb_again.Net") == ({"state": "complete", "problems": []}, {"wb_again": NET.format(width=24)})
