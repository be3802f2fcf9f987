"""The container of an export. There is no Docker here: its Dockerfile's own commands run without it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from experiments.errors import CannotRun
from experiments.export import requirements
from experiments.export.original import CHECKED
from experiments.serving.loaded import LoadedModel

ROOT = Path(__file__).parents[3]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Every instruction with what follows it."""
    lines = dockerfile.read_text().replace("\\\n", " ").splitlines()
    return [(words[0], words[2]) for line in lines if line and line[0] != "#" for words in [line.partition(" ")]]


class Container:
    """What a Dockerfile would make, in a folder: its files, its variables and its commands."""

    def __init__(self, export: Path, home: Path, python: Path) -> None:
        self.export, self.home, self.python = export, home, python
        self.workdir, self.commands = home, {}
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
        self.variables = {**kept, "HOME": str(home), "PATH": f"{python.parent}:/usr/bin:/bin"}

    def build(self, *, install: bool) -> None:
        for instruction, words in instructions(self.export / "Dockerfile"):
            match instruction:
                case "ARG" | "ENV":
                    name, _, value = words.partition("=")
                    self.variables.setdefault(name, value)
                case "WORKDIR":
                    self.workdir = self.home / words.lstrip("/")
                    self.workdir.mkdir(parents=True)
                case "COPY":
                    source, target = words.split()
                    if (self.export / source).is_dir():
                        shutil.copytree(self.export / source, self.workdir / target)
                    else:
                        shutil.copy(self.export / source, self.workdir / target)
                case "RUN" if words.startswith("useradd"):
                    assert re.fullmatch(r"useradd --system --uid 10001 --create-home (\w+)", words)
                case "RUN" if install:
                    done = subprocess.run(["sh", "-c", words], **self.place, capture_output=True, text=True)
                    assert done.returncode == 0, done.stderr
                case "CMD":
                    self.commands["CMD"] = json.loads(words)
                case "HEALTHCHECK":
                    self.commands["HEALTHCHECK"] = json.loads(words.partition(" CMD ")[2])
                case _:
                    assert instruction in {"FROM", "RUN", "USER", "EXPOSE"}

    @property
    def place(self) -> dict[str, Any]:
        return {"cwd": self.workdir, "env": self.variables}

    @contextmanager
    def running(self, poll: Callable[..., Any]) -> Iterator[str]:
        """Runs CMD on a free port of 127.0.0.1 and yields the address, once the health check says that it is well."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        replaced = {"0.0.0.0": "127.0.0.1", "8080": port}
        command = [replaced.get(word, word) for word in self.commands["CMD"]]
        check = [word.replace("8080", port) for word in self.commands["HEALTHCHECK"]]
        with (self.home / "log").open("w") as log:
            process = subprocess.Popen(command, **self.place, stdout=log, stderr=log)
        try:

            def is_healthy() -> bool:
                assert process.poll() is None, (self.home / "log").read_text()
                return subprocess.run(check, **self.place, capture_output=True).returncode == 0

            assert subprocess.run(check, **self.place, capture_output=True).returncode == 1  # nothing answers yet
            poll(is_healthy, 120)
            yield f"http://127.0.0.1:{port}"
            process.terminate()
            process.wait(30)
            assert "Finished server process" in (self.home / "log").read_text()  # it ended in order
        finally:
            process.kill()
            process.wait()


def labels_of(address: str, images: np.ndarray) -> dict[str, Any]:
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        predictions: dict[str, Any] = json.loads(answer.read())["predictions"]
        return predictions


def check_served(container: Container, original: LoadedModel, images: np.ndarray, poll: Callable[..., Any]) -> None:
    with container.running(poll) as address:
        with urlopen(f"{address}/ping", timeout=60) as answer:
            assert answer.status == 200
        served, expected = labels_of(address, images[..., 0]), original.answer(images[..., 0])
        assert served["label"] == expected["label"].tolist()
        assert np.abs(np.array(served["probabilities"]) - expected["probabilities"]).max() < 1e-5


# What is pinned.


def test_every_package_is_pinned_with_one_hash(digits_export: tuple[Path, dict[str, Any]]) -> None:
    lines = (digits_export[0] / "requirements.txt").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    assert len(lines) > 40
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert lines == sorted(set(lines))


def test_the_versions_are_those_installed_and_tested() -> None:
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    tested = {canonicalize_name(name): number for name, number in constraints.items()}
    for name, number in requirements.locked().items():
        assert number.removesuffix("+cpu") == version(name).partition("+")[0] == tested[name], name


def test_every_package_that_one_needs_is_there() -> None:
    """As pip would find it on Linux with Python 3.11: `--require-hashes` refuses a package that is not listed."""
    machine = {"python_version": "3.11", "python_full_version": requirements.PYTHON, "extra": ""}
    machine |= {"platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    locked = requirements.locked()
    needed = {
        canonicalize_name(needed.name)
        for name in locked
        for needed in map(Requirement, requires(name) or ())
        if needed.marker is None or needed.marker.evaluate(machine)
    }
    assert {name for name in needed - locked.keys() if not name.startswith(("nvidia-", "cuda-", "triton"))} == set()


def test_the_dockerfile_is_pinned_and_has_no_rights(digits_export: tuple[Path, dict[str, Any]]) -> None:
    found = instructions(digits_export[0] / "Dockerfile")
    first, last = found[0], found[-1]
    assert re.fullmatch(r"--platform=linux/amd64 python:3\.11\.\d+-slim-bookworm", first[1])
    assert (first[0], last[0]) == ("FROM", "CMD")
    names = [name for name, _ in found]
    assert dict(found)["USER"] not in {"root", "0"}
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names
    (install,) = [words for name, words in found if name == "RUN" and "pip" in words]
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install


def test_it_serves_the_models_answers(
    digits_export: tuple[Path, dict[str, Any]],
    original: LoadedModel,
    digits_of_test: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    poll: Callable[..., Any],
) -> None:
    """All commands but the installation, which the soak test below does: the packages are this environment's."""
    container = Container(digits_export[0], tmp_path, Path(sys.executable))
    container.build(install=False)
    check_served(container, original, digits_of_test[0][:CHECKED], poll)


def test_it_is_left_out_if_another_release_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements, "version", lambda name: "2.99.0+cpu" if name == "torch" else version(name))
    with pytest.raises(CannotRun, match=r"the hash of torch 2\.13\.0 is known, but 2\.99\.0 is installed"):
        requirements.check_requirements(tmp_path)


def test_it_is_left_out_if_the_network_needs_another_package(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("mlflow==3.17.2\nnumpy==2.4.6\nwb-other==1.0\ntorch==2.13.0\n")
    with pytest.raises(CannotRun, match="the network needs wb-other, whose hashes are not known"):
        requirements.check_requirements(tmp_path)


@pytest.mark.soak
def test_all_commands_of_the_dockerfile_in_a_clean_environment(
    digits_export: tuple[Path, dict[str, Any]],
    original: LoadedModel,
    digits_of_test: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    poll: Callable[..., Any],
) -> None:
    """Needs Python 3.11 on x86-64, pip's index, and a place for torch's build for the CPU."""
    assert sys.version_info[:2] == (3, 11)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    container = Container(digits_export[0], tmp_path / "root", tmp_path / "venv/bin/python")
    container.home.mkdir()
    if "PIP_FIND_LINKS" in os.environ:  # torch is on this machine's disk
        container.variables["TORCH_INDEX"] = (tmp_path / "empty").as_uri()
    container.build(install=True)
    listed = subprocess.run([container.python, "-m", "pip", "freeze", "--all"], capture_output=True, text=True)
    installed = dict(line.split("==") for line in listed.stdout.splitlines() if "==" in line)
    found = {canonicalize_name(name): number for name, number in installed.items()}
    assert found.keys() - {"pip"} == requirements.locked().keys()
    check_served(container, original, digits_of_test[0][:CHECKED], poll)
