"""What a run's provenance says, and that it is complete where git does not help."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from experiments.provenance import gather as provenance

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
    assert told["project"] == str(provenance.PROJECT)
    assert (told["seed"], told["split_seed"]) == (0, 0)
    assert told["torch"]["threads"] == 1
    assert {"cpu", "cpu_flags", "cores", "host", "os", "python"} <= set(told["machine"])
    assert "MKL_CBWR" in told["variables"]


def test_in_a_checkout_git_keeps_the_sources(first_folder: Path) -> None:
    told = json.loads((first_folder / "provenance.json").read_text())
    assert (told["sources"], told["own_folders"]) == (None, [])
    assert not (first_folder / "sources.zip").exists()


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


# A run of a project that is no checkout, from another folder, with a network of the user's there.


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The project's folder, the working directory, and the run's artifacts."""
    folder = tmp_path_factory.mktemp("elsewhere")
    project, work = folder / "project", folder / "work"
    for name in ("lightning_modules", "experiments", "sweeps", "workbench"):
        shutil.copytree(provenance.PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(provenance.PROJECT / name, project)
    (project / "experiments" / "recipes" / "secret.yaml").write_text("seed: 1\n")
    work.mkdir()
    (work / "my_net.py").write_text(NETWORK)
    (work / "my_parts.py").write_text("from torch.nn import Linear as head\n")
    (work / "unused.py").write_text("never imported\n")
    words = ["train", "digits", "--model.network=my_net.Net", "--trainer.max_epochs=1", "--trainer.threads=1"]
    env = os.environ | {"PYTHONPATH": str(project), "ONEDNN_VERBOSE": "0", "TORCH_API_TOKEN": "hunter2"}
    command = [
        sys.executable,
        "-m",
        "workbench",
        *words,
        "--name=https://user:secret@host/data",
        "--store",
        str(folder / "store"),
        "--json",
    ]
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return project, work, Path(json.loads(done.stdout)["artifact_uri"].removeprefix("file://"))


def told_by(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return told


def test_outside_of_a_checkout_the_archive_holds_the_project_and_the_user_s_modules(
    elsewhere: tuple[Path, Path, Path],
) -> None:
    project, work, folder = elsewhere
    with zipfile.ZipFile(folder / "sources.zip") as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    expected = {str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()}
    expected = {name: content for name, content in expected.items() if not name.endswith(("secret.yaml", ".pyc"))}
    expected |= {f"user/{name}": (work / name).read_bytes() for name in ("my_net.py", "my_parts.py")}
    assert kept == expected


def test_outside_of_a_checkout_provenance_says_so(elsewhere: tuple[Path, Path, Path]) -> None:
    project, work, folder = elsewhere
    told = told_by(folder)
    assert told["git"] is None
    assert (folder / "uncommitted.patch").read_bytes() == b""
    assert told["sources"]["left_out"] == ["experiments/recipes/secret.yaml"]
    assert [told[name] for name in ("project", "working_directory")] == [str(project), str(work)]
    assert told["own_folders"] == [str(work)]


def test_provenance_holds_no_credentials(elsewhere: tuple[Path, Path, Path]) -> None:
    told = told_by(elsewhere[2])
    assert "https://host/data" in told["command"]
    assert told["variables"]["ONEDNN_VERBOSE"] == "0"
    text = (elsewhere[2] / "provenance.json").read_text()
    assert "hunter2" not in text
    assert "user:secret" not in text
