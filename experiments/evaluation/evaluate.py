"""Evaluates a run, or the seeds of a configuration: gathers accuracy, calibration, robustness and agreement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.significance import read_predictions
from experiments.evaluation import calibration, robustness
from experiments.evaluation.accuracy import accuracy, by_class
from experiments.evaluation.against import Against
from experiments.evaluation.agreement import agreement
from experiments.evaluation.corruptions import VERSION
from experiments.evaluation.images import Labelled, own_images, test_images
from experiments.evaluation.models import Model, any_model, logged_model
from experiments.evaluation.robustness import Measured, measure
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary
from lightning_modules import InputError

Document = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The document, the images it is about, and the models' answers image by image, by run id."""

    document: Document
    labelled: Labelled
    measured: Mapping[str, Measured]


def evaluate(
    artifacts: Artifacts,
    runs: Sequence[RunSummary],
    *,
    data: Path | None = None,
    against: Against | None = None,
    showing: Callable[[int], Callable[[], object]],
) -> Evaluation:
    """Evaluates runs that differ in the seed alone, on the test images of the first, or on the images at `data`.

    `showing`: is given the number of steps, and returns what to call after each. The document has:

    - `run_id` and `name` of the first run, `run_ids`; `data`: {origin, images, sha256};
    - `accuracy`: {value, ci95}: of one run with Wilson's interval over images, of several with Student's over seeds;
    - `classes`: rows {class, images, accuracy, ci95, precision, f1};
    - `calibration_error`, and `calibration` (`_calibration`);
    - `corruptions`: rows {name, strength, amount, unit, accuracy, ci95}, with `against` also {against};
    - `corruption_error` (`robustness.corruption_error`), with {against: a name, against_run_ids};
    - `agreement` between seeds (`agreement.py`); null for one run;
    - `version` of the corruptions; `notes`.

    Raises InputError if a run has no model, or if the images cannot be read or do not fit.
    """
    store = artifacts.store
    models = [logged_model(store, run) for run in runs]
    first, notes, others = models[0], [], []
    _check_alike(models, first, "RUN")
    try:
        others = [any_model(store, run) for run in against.runs] if against else []
        _check_alike(others, first, "--against")
    except InputError as error:
        if against is None or against.is_given:
            raise
        notes.append(f"not relative to {against.name}: {error.message}")
        against = None
    labelled = own_images(data, first) if data else test_images(artifacts, first)
    told = showing(robustness.steps(labelled.subset))
    measured = measure([model.answer for model in [*models, *others]], labelled.subset, told)
    own, of_others = measured[: len(models)], measured[len(models) :]
    targets_N, right_SRN = labelled.subset.targets, np.stack([each.is_right for each in own])
    against_SRN = np.stack([each.is_right for each in of_others]) if against else None
    value, ci95 = accuracy(right_SRN[:, 0])
    document: Document = {
        "run_id": first.run.run_id,
        "name": first.run.name,
        "run_ids": [run.run_id for run in runs],
        "data": {"origin": labelled.origin, "images": len(targets_N), "sha256": labelled.sha256},
        "accuracy": {"value": value, "ci95": ci95},
        "classes": by_class(np.stack([each.labels for each in own]), targets_N, first.class_names),
        **_calibration(artifacts, runs, own, targets_N),
        "corruptions": _corruptions(right_SRN, against_SRN),
        "corruption_error": robustness.corruption_error(right_SRN, against_SRN)
        | {
            "against": against.name if against else None,
            "against_run_ids": [run.run_id for run in against.runs] if against else [],
        },
        "agreement": agreement(np.stack([each.probabilities for each in own]), targets_N) if len(own) > 1 else None,
        "class_names": [str(name) for name in first.class_names],
        "version": VERSION,
        "notes": [*notes, *labelled.notes, *_unlike_recorded(runs, own, targets_N, data)],
    }
    return Evaluation(document, labelled, {run.run_id: each for run, each in zip(runs, own, strict=True)})


def _check_alike(models: Sequence[Model], first: Model, field: str) -> None:
    for model in models:
        if list(model.class_names) != list(first.class_names) or model.type != first.type:
            message = f"its classes or the type of its images are not those of {first.run.name}"
            raise InputError(field, model.run.name, message, "name runs on the same data")


def _corruptions(right_SRN: NDArray[np.bool_], against_SRN: NDArray[np.bool_] | None) -> list[dict[str, Any]]:
    rows = robustness.rows(right_SRN)
    if against_SRN is None:
        return rows
    others = robustness.rows(against_SRN)
    return [row | {"against": other["accuracy"]} for row, other in zip(rows, others, strict=True)]


def _calibration(
    artifacts: Artifacts, runs: Sequence[RunSummary], measured: Sequence[Measured], targets_N: NDArray[np.int64]
) -> Document:
    """Returns `calibration_error`, and `calibration`.

    `calibration`: `bins` of the reliability diagram, of all seeds together; `temperature`, fitted on the val images of
    each run, and `error_after`, the calibration error at it. All but the bins are means over seeds; the last two are
    null if a run has no predictions on val.
    """
    errors, temperatures, after = [], [], []
    for run, each in zip(runs, measured, strict=True):
        errors.append(calibration.calibration_error(each.probabilities, targets_N))
        if (val := read_predictions(artifacts, run, "val")) is not None:
            temperatures.append(calibration.fit_temperature(val.probabilities, val.target))
            scaled_NK = calibration.at_temperature(each.probabilities, temperatures[-1])
            after.append(calibration.calibration_error(scaled_NK, targets_N))
    everyone_MK, targets_M = np.concatenate([each.probabilities for each in measured]), np.tile(targets_N, len(runs))
    has_all = len(temperatures) == len(runs)
    return {
        "calibration_error": float(np.mean(errors)),
        "calibration": {
            "bins": calibration.reliability(everyone_MK, targets_M, are_independent=len(runs) == 1),
            "temperature": float(np.mean(temperatures)) if has_all else None,
            "error_after": float(np.mean(after)) if has_all else None,
        },
    }


def _unlike_recorded(
    runs: Sequence[RunSummary], measured: Sequence[Measured], targets_N: NDArray[np.int64], data: Path | None
) -> list[str]:
    """Returns a note on each run whose model now labels other test images rightly than when it was trained."""
    notes = []
    for run, each in zip(runs, measured, strict=True):
        recorded, hits = run.metrics.get("test/accuracy"), int(np.count_nonzero(each.labels == targets_N))
        if data is None and recorded is not None and round(recorded * len(targets_N)) != hits:
            value = f"{hits / len(targets_N):.4f}, but the run recorded {recorded:.4f}"
            notes.append(f"{run.name} ({run.run_id[:8]}): its model now has test accuracy {value}")
    return notes
