"""A comparison that was never made: the document of `experiments.comparison.compare`, of two runs on four images."""

from typing import Any

A, B = "a" * 32, "b" * 32


def robust(name: str, difference: float) -> dict[str, Any]:
    """A row of two runs on corrupted images."""
    return {
        "name": name,
        "values": {A: {"mean": 0.5, "ci95": (0.4, 0.6)}, B: {"mean": 0.5 - difference, "ci95": None}},
        "difference": difference,
        "ci95": [difference - 0.1, difference + 0.1],
        "p_value": 0.01,
        "distinguishable": True,
        "test": "Student's t-test, paired by image",
    }


def compared_runs() -> dict[str, Any]:
    run = {"experiment_id": "1", "kind": "train", "status": "FINISHED", "outcome": "finished", "start_time": 0}
    scores = {A: 0.75, B: 0.5}
    test = {
        "name": "exact McNemar test of val/accuracy",
        "metric": "val/accuracy",
        "between": [A, B],
        "difference": 0.25,
        "ci95": [-0.1, 0.6],
        "p_value": 1.0,
        "uncorrected_p_value": 1.0,
        "distinguishable": False,
        "images": 4,
        "first_only": 1,
        "second_only": 0,
    }
    epochs = [{"epoch": n, "val/accuracy": 0.2 * n, "val/loss": 1 / n, "train/loss": 0.9 / n} for n in (1, 2, 3)]
    return {
        "runs": [{"run_id": A, "name": "first", **run}, {"run_id": B, "name": "second", **run}],
        "differences": [
            {"field": "optimizer.lr", "kind": "param", "values": {A: "0.1", B: "0.01"}},
            {"field": "net.py:3", "kind": "code", "values": {A: "x = relu(x)\nreturn x", B: "x = gelu(x)\nreturn x"}},
        ],
        "metrics": [{"name": "val/accuracy", "values": scores, "best": [A]}],
        "metric": "val/accuracy",
        "ranking": [{"run_id": run_id, "score": value} for run_id, value in scores.items()],
        "groups": [],
        "tests": [test],
        "other_tests": [],
        "notes": ["a note"],
        "curves": {A: epochs, B: [{**each, "val/accuracy": each["val/accuracy"] / 2} for each in epochs]},
        "answers": {
            "runs": [A, B],
            "split": "val",
            "images": 4,
            "classes": ["cat", "dog"],
            "recall": [[1.0, 0.5], [0.5, 0.5]],
            "confusion": [[1, -1], [0, 0]],
            "right_alone": [1, 0],
            "disagreements": [
                {"index": 1, "target": 0, "labels": [0, 1], "probabilities": [0.9, 0.8]},
                {"index": 2, "target": 1, "labels": [0, 1], "probabilities": [0.6, 0.7]},
            ],
        },
        "robustness": {
            "between": [A, B],
            "images": 4,
            "evaluations": {A: "c" * 32, B: "d" * 32},
            "rows": [robust("clean", 0.25), robust("noise", -0.5), robust("corrupted", -0.5)],
        },
        "sweeps": [],
        "dashboard_url": "http://127.0.0.1:5000/#/compare-runs",
    }
