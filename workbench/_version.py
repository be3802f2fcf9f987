"""`workbench --version`."""

import argparse
import platform
from collections.abc import Sequence
from typing import Any

_PACKAGES = {"torch": "torch", "Lightning": "pytorch-lightning", "MLflow": "mlflow", "Optuna": "optuna"}


class ShowVersions(argparse.Action):
    """Prints the versions of what a result depends on, as they are installed, and ends the process."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: Any, __: str | Sequence[Any] | None, ___: Any = None
    ) -> None:
        versions = {"workbench": _installed("lightning-workbench"), "Python": platform.python_version()}
        versions |= {name: _installed(package) for name, package in _PACKAGES.items()}
        for name, version in versions.items():
            print(f"{name:<11}{version}")
        parser.exit()


def _installed(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
