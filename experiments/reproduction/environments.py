"""The recorded environment: a virtual environment with the package versions of a past run."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.errors import CannotRun
from experiments.provenance.packages import installed_in
from lightning_modules.log import LOG

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def recorded_python(folder: Path, python_version: str, requirements: str) -> Path:
    """Returns the Python of an environment in `folder` with exactly these requirements; installs it if it is missing.

    It is kept, so runs with the same packages share it. Pip gets lines of the form NAME==VERSION alone. Raises
    CannotRun if there are others but comments, or if pip fails, and then leaves nothing behind.
    """
    requirements = _pins(requirements)
    minor = ".".join(python_version.split(".")[:2])
    home = folder / sha256(f"{minor}\n{requirements}".encode()).hexdigest()[:16]
    ready = home / "ready"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{home.name}.lock"):
        if not ready.exists():
            shutil.rmtree(home, ignore_errors=True)  # left by a killed process
            try:
                _install(home, minor, requirements)
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)
                raise
            ready.touch()
    return home / "bin" / "python"


def other_files(python: Path, recorded: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the packages in an environment whose files are not those that were recorded, with their versions."""
    (site_packages,) = python.parent.parent.glob("lib/python*/site-packages")
    return [
        f"{package.name} {package.version}"
        for package in installed_in(site_packages)
        if (before := recorded.get(package.name)) is not None
        and None not in (before["files_sha256"], package.files_sha256)
        and before["files_sha256"] != package.files_sha256
    ]


def _pins(requirements: str) -> str:
    """Returns the lines NAME==VERSION. Raises CannotRun for URLs, paths, options and everything else."""
    lines = [line.strip() for line in requirements.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        if not _PIN.fullmatch(line):
            raise CannotRun(f"its requirements.txt has a line that is not NAME==VERSION: {line!r}", "inspect the file")
    return "".join(f"{line}\n" for line in lines)


def _install(home: Path, minor: str, requirements: str) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = sys.executable if minor == here else shutil.which(f"python{minor}")
    if interpreter is None:
        raise CannotRun(f"the run was made with Python {minor}, which is not installed", f"install python{minor}")
    LOG.info(f"installing the recorded packages into {home} (takes some minutes, only once)")
    # -I: otherwise the packages in PYTHONPATH would count as installed.
    _call(interpreter, "-I", "-m", "venv", str(home))
    (home / "requirements.txt").write_text(requirements, encoding="utf-8")
    _call(str(home / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "-r", str(home / "requirements.txt"))


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        message = f"the recorded packages could not be installed: {' '.join(errors[-1:])}"
        raise CannotRun(message, "reproduce in today's environment, without --env recorded")
