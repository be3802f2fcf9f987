"""mlflow_model/, requirements.txt and Dockerfile: a container that serves the model by MLflow's scoring protocol."""

import shutil
from pathlib import Path

from experiments.export.original import Original
from experiments.export.requirements import LOCKED, PYTHON, check_requirements
from experiments.export.templates import write_template

MODEL, DOCKERFILE, REQUIREMENTS = "mlflow_model", "Dockerfile", "requirements.txt"


def write_model(original: Original, folder: Path) -> None:
    """Copies the run's model as MLflow keeps it: `mlflow.pyfunc.load_model` takes it."""
    shutil.copytree(original.model.folder, folder / MODEL, ignore=shutil.ignore_patterns("__pycache__"))


def write_container(original: Original, folder: Path) -> None:
    """Raises CannotRun if the hash of a package that the model needs is not known."""
    check_requirements(original.model.folder)
    shutil.copyfile(LOCKED, folder / REQUIREMENTS)
    write_template(DOCKERFILE, folder, python=PYTHON)
