"""The packages of the container, each with its version and the SHA-256 of its wheel.

They are in templates/requirements.txt, so that an export asks no server. After a change in constraints.txt, write that
file again, in the project's folder: `python -m experiments.export.requirements`. It asks the package index through pip.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from experiments.errors import CannotRun

PYTHON = "3.11.14"  # of the container, whatever this process runs on: what is exported does not depend on it
LOCKED = Path(__file__).parent / "templates" / "requirements.txt"

_WANTED = ("mlflow-skinny", "numpy", "pandas", "safetensors", "torch")  # mlflow-skinny: MLflow without its own server
_SERVED_BY = {"mlflow": "mlflow-skinny"}  # what a model asks for: what the container has
_PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)), "manylinux2014_x86_64"]  # of Debian 12
_LOCAL = "+cpu"  # the build of torch; a GPU's takes gigabytes
_HEAD = f"""\
# The wheels for Python {PYTHON.rpartition(".")[0]} on Linux, x86-64. torch: its build for the CPU.
"""


def locked() -> dict[str, str]:
    """Returns the version of every package in the container."""
    lines = (line.split()[0] for line in LOCKED.read_text(encoding="utf-8").splitlines() if "==" in line)
    return dict(line.split("==") for line in lines)


def check_requirements(model: Path) -> None:
    """Raises CannotRun if the container's packages are not those that the files were checked with.

    `model`: the folder of an MLflow model, whose requirements.txt names what it needs.
    """
    held = {name: number.removesuffix(_LOCAL) for name, number in locked().items()}
    for name in _WANTED:
        if (here := version(name).partition("+")[0]) != held[name]:
            message = f"the hash of {name} {held[name]} is known, but {here} is installed"
            raise CannotRun(f"{message}: pip install -c constraints.txt {name}")
    lines = (model / "requirements.txt").read_text(encoding="utf-8").split()
    needed = [line.partition("==")[0] for line in lines]
    if unknown := [name for name in needed if _SERVED_BY.get(name, name) not in held]:
        raise CannotRun(f"the network needs {', '.join(unknown)}, whose hashes are not known")


def main() -> None:
    """Writes templates/requirements.txt: what pip would install into the container."""
    wanted = [f"{name}=={version(name)}" for name in _WANTED]
    platform = [word for name in _PLATFORMS for word in ("--platform", name)]
    platform += ["--python-version", PYTHON, "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ("install", "--dry-run", "--ignore-installed", "--target", folder, "--report", str(report))
        command = [sys.executable, "-m", "pip", *words, *platform, "--constraint", "constraints.txt", *wanted]
        subprocess.run(command, check=True, stdout=sys.stderr)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = []
    for package in found:
        name, number = (package["metadata"][key] for key in ("name", "version"))
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name.lower().replace('_', '-')}=={number} --hash=sha256:{digest}\n")
    LOCKED.write_text("".join([_HEAD, *sorted(lines)]), encoding="utf-8")


if __name__ == "__main__":
    main()
