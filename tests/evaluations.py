"""An evaluation that was never made: the document of `experiments.evaluation.evaluate`, of two seeds on 400 images."""

from typing import Any

import numpy as np

from experiments.evaluation import calibration, robustness
from experiments.evaluation.accuracy import accuracy, by_class
from experiments.evaluation.agreement import agreement
from experiments.evaluation.robustness import CONDITIONS

A, B = "a" * 32, "b" * 32
_IMAGES = 400


def evaluated_runs() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    probabilities_SNK = draw.dirichlet((1, 1, 1), (2, _IMAGES))
    targets_N = draw.integers(3, size=_IMAGES)
    labels_SN = probabilities_SNK.argmax(axis=2)
    shares_R1 = np.array([[1 - 0.15 * strength] for _, strength in CONDITIONS])
    right_SRN = draw.random((2, len(CONDITIONS), _IMAGES)) < shares_R1
    right_SRN[:, 0] = labels_SN == targets_N
    against_SRN = draw.random((2, len(CONDITIONS), _IMAGES)) < shares_R1 * 0.9
    value, ci95 = accuracy(right_SRN[:, 0])
    rows = zip(robustness.rows(right_SRN), robustness.rows(against_SRN), strict=True)
    return {
        "run_id": A,
        "name": "champion",
        "run_ids": [A, B],
        "data": {"origin": "test images", "images": _IMAGES, "sha256": "0"},
        "accuracy": {"value": value, "ci95": ci95},
        "classes": by_class(labels_SN, targets_N, ["cat", "dog", "eel"]),
        "calibration_error": calibration.calibration_error(probabilities_SNK[0], targets_N),
        "calibration": {
            "bins": calibration.reliability(probabilities_SNK[0], targets_N),
            "temperature": 2.0,
            "error_after": 0.1,
        },
        "corruptions": [row | {"against": other["accuracy"]} for row, other in rows],
        "corruption_error": robustness.corruption_error(right_SRN, against_SRN)
        | {"against": "the recipe's own settings", "against_run_ids": ["c" * 32]},
        "agreement": agreement(probabilities_SNK, targets_N),
        "class_names": ["cat", "dog", "eel"],
        "version": 1,
        "notes": ["a note"],
        "dashboard_url": "http://127.0.0.1:5000/#/experiments/1",
    }
