"""Compares exported files with the original model, in a process that cannot import the project."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.code.snapshot import FLOORS
from experiments.errors import ExportDiffers


@dataclass(frozen=True)
class Agreement:
    """How far the probabilities of a file are from the original's, and whether all labels are equal."""

    max_difference: float
    labels_equal: bool

    @classmethod
    def of(cls, name: str, original_NK: NDArray[Any], exported_NK: NDArray[Any]) -> "Agreement":
        """Compares the probabilities of the file `name`. Raises ExportDiffers if they are not of the same shape."""
        if original_NK.shape != exported_NK.shape:
            raise ExportDiffers(f"{name}: answers of shape {exported_NK.shape}, the original's {original_NK.shape}")
        labels_equal = bool((original_NK.argmax(axis=1) == exported_NK.argmax(axis=1)).all())
        return cls(float(np.abs(original_NK - exported_NK).max()), labels_equal)


def clean_answers(folder: Path, jobs: Sequence[tuple[str, NDArray[Any]]], scratch: Path) -> list[NDArray[Any]]:
    """Returns the probabilities (N, K) that each named file of the exported `folder` gives for its images (N, H, W, C).

    Raises ExportDiffers if a file cannot be used without this project.
    """
    asked: list[dict[str, str]] = []
    places: dict[int, Path] = {}  # where images that several files get are written
    for number, (name, images_NHWC) in enumerate(jobs):
        place = places.setdefault(id(images_NHWC), scratch / f"images_{number}.npy")
        if not place.exists():
            np.save(place, images_NHWC)
        asked.append({"file": name, "images": str(place), "answers": str(scratch / f"answers_{number}.npy")})
    order = {"folder": str(folder.absolute()), "hidden": list(FLOORS), "jobs": asked}
    script = Path(__file__).with_name("clean_answers.py")
    # Isolated: without the working directory and PYTHONPATH. -B: no byte code in the folder.
    command = [sys.executable, "-I", "-B", "-W", "ignore", str(script)]
    done = subprocess.run(command, cwd=scratch, input=json.dumps(order), capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ExportDiffers(lines[-1] if lines else f"the check ended with exit code {done.returncode}")
    return [np.load(job["answers"]) for job in asked]
