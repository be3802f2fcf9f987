"""The recorded environment: a virtual environment with the package versions of a past run."""

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from experiments.errors import CannotRun
from lightning_modules.log import LOG


def recorded_python(folder: Path, python_version: str, requirements: str) -> Path:
    """Returns the Python of an environment in `folder` with exactly these requirements; installs it if it is missing.

    It is kept, so runs with the same packages share it. Raises CannotRun if pip fails, and then leaves nothing behind.
    """
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
