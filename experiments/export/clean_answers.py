"""Answers of exported files, in a process that cannot import the project. `check.py` starts this file as a script.

It reads a JSON object from standard input: `folder`, the exported one; `hidden`, packages that may only come from that
folder; `jobs`, each with the name of a file in the folder, and the .npy files to read and to write.
"""

import importlib
import json
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import numpy as np


class _Hidden:
    """Finds some packages in one folder, and nowhere else."""

    def __init__(self, names: list[str], folder: Path) -> None:
        self._names, self._folder = names, folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._names:
            return None
        spec = PathFinder.find_spec(name, path or [str(self._folder)])
        if spec is None:
            raise ModuleNotFoundError(f"{name} is not in the exported folder", name=name)
        return spec


def main() -> None:
    asked = json.load(sys.stdin)
    folder = Path(asked["folder"])
    sys.meta_path.insert(0, _Hidden(asked["hidden"], folder / "network"))
    sys.path.insert(0, str(folder))
    predict = importlib.import_module("predict")
    for job in asked["jobs"]:
        images_NHWC = np.load(job["images"], mmap_mode="r")
        try:
            if (folder / job["file"]).is_dir():
                answers = _mlflow(folder / job["file"], images_NHWC)
            else:
                answers = predict.load(job["file"])(images_NHWC)
        except Exception as error:  # the network's own code may raise any exception
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            sys.exit(f"{job['file']} cannot be used without the project: {reason}")
        np.save(job["answers"], answers)


def _mlflow(folder: Path, images_NHWC: Any) -> Any:
    import mlflow

    images = images_NHWC[..., 0] if images_NHWC.shape[3] == 1 else images_NHWC
    return mlflow.pyfunc.load_model(str(folder)).predict(np.asarray(images))["probabilities"]


if __name__ == "__main__":
    main()
