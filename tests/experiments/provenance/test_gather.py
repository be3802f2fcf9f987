"""What a run's provenance says, and that it is complete where git does not help."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments import Store, load_config, run
from experiments.code.code_store import CodeStore
from experiments.code.recorded import RecordedCode
from experiments.code.snapshot import PROJECT
from experiments.provenance import gather
from experiments.tracking.runs import list_runs
from tests.projects import copy_sources

if TYPE_CHECKING:
    from mlflow.entities import Run

NETWORK = """
from my_parts import head
from torch import nn

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), head(64, num_classes))
"""


def test_provenance_tells_command_folders_seeds_threads_and_versions(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    assert "train digits" in told["command"]
    assert (told["seed"], told["split_seed"]) == (0, 0)
    assert told["torch"]["threads"] == 1
    assert {"cpu", "cpu_flags", "cores", "host", "os", "python"} <= set(told["machine"])
    assert "MKL_CBWR" in told["variables"]


def test_the_code_is_kept_in_the_store(first_folder: Path, digits_store: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())["code"]
    code_store = CodeStore(digits_store)
    tree = code_store.tree(told["commit"])
    assert (tree.sha256, len(tree.files)) == (told["sha256"], told["files"])
    kept = dict(code_store.read(tree))
    assert "lightning_modules/networks/baseline_cnn.py" in told["loaded"]
    assert {name: kept[name].content for name in told["loaded"]} == {
        name: (PROJECT / name).read_bytes() for name in told["loaded"]
    }
    assert not (first_folder / "sources.zip").exists()


def test_a_run_whose_files_nobody_edits_has_a_complete_record(first_run: "Run", first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    assert told["record"] == {"state": "complete", "problems": []}
    assert told["inputs"]["files"] == []
    assert first_run.data.tags["workbench.record"] == "complete"


def test_a_record_names_no_place_of_this_machine(first_folder: Path) -> None:
    for name in ("provenance.json", "config.yaml", "record.json", "requirements.txt", "trace.jsonl"):
        text = (first_folder / name).read_text()
        assert [word for word in (str(PROJECT), str(Path.home()), str(first_folder)) if word in text] == []


def test_provenance_s_split_hashes_are_the_trace_s(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    lines = [json.loads(line) for line in (first_folder / "trace.jsonl").read_text().splitlines()]
    assert told["data_sha256"] == lines[0]["sha256"]
    assert told["split_sha256"] == lines[1]["sha256"]


def test_requirements_pin_the_packages_that_provenance_lists(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    lines = (first_folder / "requirements.txt").read_text().splitlines()
    assert {"mlflow", "pytorch-lightning", "torch"} <= {line.split("==")[0] for line in lines}
    pins = [f"{name}=={package['version'].partition('+')[0]}" for name, package in told["packages"].items()]
    assert [line.removeprefix("# ").split()[0] for line in lines] == pins


# A run of a project that is no checkout, from another folder, with a network of the user's there; with git and without.


@pytest.fixture(scope="module", params=["git", "no git"])
def elsewhere(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, Path, Path]:
    """The project's folder, the working directory, and the run's artifacts."""
    folder = tmp_path_factory.mktemp("elsewhere")
    project, work = folder / "project", folder / "work"
    project.mkdir()
    copy_sources(project)
    (project / "experiments" / "recipes" / "secret.yaml").write_text("seed: 1\n")
    work.mkdir()
    (work / "my_net.py").write_text(NETWORK)
    (work / "my_parts.py").write_text("from torch.nn import Linear as head\n")
    (work / "unused.py").write_text("never imported\n")
    words = ["train", "digits", "--model.network=my_net.Net", "--trainer.max_epochs=1", "--trainer.threads=1"]
    words += ["--name=https://user:secret@host/data", "--store", str(folder / "store"), "--json"]
    env = os.environ | {"PYTHONPATH": str(project), "ONEDNN_VERBOSE": "0", "TORCH_API_TOKEN": "hunter2"}
    if request.param == "no git":
        env["PATH"] = "/nowhere"
    done = subprocess.run(
        [sys.executable, "-m", "workbench", *words], cwd=work, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return project, work, Path(json.loads(done.stdout)["artifact_uri"].removeprefix("file://"))


def told_by(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return told


def test_outside_of_a_checkout_the_project_and_the_user_s_modules_are_kept(elsewhere: tuple[Path, Path, Path]) -> None:
    project, work, folder = elsewhere
    code = RecordedCode(folder.parents[2], told_by(folder), folder)
    with code.unpacked() as unpacked:
        kept = {
            str(path.relative_to(unpacked.root)): path.read_bytes()
            for path in unpacked.root.rglob("*")
            if path.is_file()
        }
        assert unpacked.imports == (unpacked.folder, unpacked.root / "_outside" / "0")
    expected = {str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()}
    hidden = ("secret.yaml", ".pyc", ".gitignore")
    expected = {name: content for name, content in expected.items() if not name.endswith(hidden)}
    expected |= {f"_outside/0/{name}": (work / name).read_bytes() for name in ("my_net.py", "my_parts.py")}
    kept.pop(".gitignore", None)
    assert kept == expected


def test_outside_of_a_checkout_provenance_says_so(elsewhere: tuple[Path, Path, Path]) -> None:
    _, _, folder = elsewhere
    told = told_by(folder)
    assert told["git"] is None
    assert (folder / "uncommitted.patch").read_bytes() == b""
    assert list(told["code"]["left_out"]) == ["experiments/recipes/secret.yaml"]
    assert told["code"]["own_folders"] == [{"name": "_outside/0", "path": "../work"}]
    assert told["record"]["state"] == "complete"


def test_a_run_that_ends_while_it_is_recorded_has_no_half_of_a_record(
    scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(code: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr(gather, "inputs", killed)
    with pytest.raises(RuntimeError, match="killed here"):
        run(load_config("digits", {"trainer.threads": 1}), store=scratch_store, name="killed while it is recorded")
    (ended,) = [each for each in list_runs(scratch_store) if each.name == "killed while it is recorded"]
    folder = scratch_store.files_folder(scratch_store.client.get_run(ended.run_id).info)
    assert (folder / "config.yaml").exists()
    assert not list(folder.glob("provenance.json*"))


def test_provenance_holds_no_credentials(elsewhere: tuple[Path, Path, Path]) -> None:
    told = told_by(elsewhere[2])
    assert "https://host/data" in told["command"]
    assert told["variables"]["ONEDNN_VERBOSE"] == "0"
    text = (elsewhere[2] / "provenance.json").read_text()
    assert "hunter2" not in text
    assert "user:secret" not in text
