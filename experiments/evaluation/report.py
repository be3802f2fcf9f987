"""Stores an evaluation in MLflow, as a run of kind `evaluation`: document, page, answers, and metrics."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifact_names import EVALUATION, EVALUATION_ANSWERS, EVALUATION_PAGE
from experiments.comparison.robustness import EVALUATES
from experiments.dashboard.links import run_url
from experiments.evaluation.evaluate import Document, Evaluation
from experiments.evaluation.page import page, title_of
from experiments.evaluation.robustness import CONDITIONS, examples, values_of
from experiments.evaluation.text import sentences
from experiments.pages.pictures import as_url
from experiments.tracking.description import DESCRIPTION
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from lightning_modules.showable import in_markdown, showable

_NAME = 220  # characters of the name of its run
_MOST_LISTED = 100  # runs in a tag


def store_evaluation(store: Store, runs: Sequence[RunSummary], evaluation: Evaluation) -> Document:
    """Creates the run, in the experiment of the evaluated runs, and returns the document with what it is called.

    The evaluated runs, whose records stay as they are, get the tag `workbench.evaluated_by`.
    """
    document = evaluation.document | {"dashboard_url": run_url(store, runs[0].experiment_id, runs[0].run_id)}
    text = page(document, _disagreements(evaluation), _examples(evaluation), store.command("ui"))
    experiment = store.client.get_experiment(runs[0].experiment_id).name
    tags = {
        EVALUATES: ",".join(document["run_ids"][:_MOST_LISTED]),
        DESCRIPTION: "\n\n".join(map(in_markdown, sentences(document))),
    }
    run_id = create_run(store, experiment=experiment, name=showable(title_of(document), _NAME), kind="evaluation")
    document |= {"evaluation_run_id": run_id}
    with open_run(store, run_id) as tracked:
        tracked.set_tags(tags)
        for strength, metrics in _metrics(document).items():
            tracked.log_metrics(metrics, strength)
        tracked.path(EVALUATION).write_text(json.dumps(document, indent=2), encoding="utf-8")
        tracked.path(EVALUATION_PAGE).write_text(text, encoding="utf-8")
        _write_answers(evaluation, tracked.path(EVALUATION_ANSWERS))
    for run in runs:
        store.client.set_tag(run.run_id, "workbench.evaluated_by", run_id)
    return document | {"evaluation_url": run_url(store, runs[0].experiment_id, run_id), "page": _local(store, run_id)}


def _metrics(document: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Returns the metrics by step. The step of an accuracy under a corruption is its strength."""
    errors, calibration = document["corruption_error"], document["calibration"]
    found = {
        "evaluation/accuracy": document["accuracy"]["value"],
        "evaluation/calibration_error": document["calibration_error"],
        "evaluation/calibration_error_after": calibration["error_after"],
        "evaluation/temperature": calibration["temperature"],
        "evaluation/corruption_error": errors["mean"],
        "evaluation/relative_corruption_error": errors["relative"],
        "evaluation/agreement": document["agreement"] and document["agreement"]["all"],
    }
    by_step: dict[int, dict[str, float]] = {0: {name: value for name, value in found.items() if value is not None}}
    for row in document["corruptions"]:
        by_step.setdefault(row["strength"], {})[f"corrupted/{row['name']}"] = row["accuracy"]
    return by_step


def _write_answers(evaluation: Evaluation, path: Path) -> None:
    """Writes for each run whether it labels each image rightly under each condition, eight images in a byte."""
    bits = {run_id: np.packbits(each.is_right, axis=1) for run_id, each in evaluation.measured.items()}
    conditions = np.array([f"{name} {strength}" for name, strength in CONDITIONS])
    images = np.array(evaluation.document["data"]["images"])
    arrays: dict[str, Any] = {**bits, "conditions": conditions, "images": images}
    np.savez_compressed(path, **arrays)


def _disagreements(evaluation: Evaluation) -> list[str]:
    found = evaluation.document["agreement"]
    subset = evaluation.labelled.subset
    return [as_url(_image(subset, each["index"])) for each in found["disagreements"]] if found else []


def _image(subset: Any, index: int) -> NDArray[Any]:
    return np.asarray(subset.images[subset.indices[index]])


def _examples(evaluation: Evaluation) -> dict[str, list[str]]:
    subset = evaluation.labelled.subset
    values = values_of(subset)
    return {name: [as_url(each, values) for each in found] for name, found in examples(subset, values).items()}


def _local(store: Store, run_id: str) -> str | None:
    """Returns the path of the page; None if a server keeps it."""
    folder = store.files_folder(store.client.get_run(run_id).info)
    return str(folder / EVALUATION_PAGE) if (folder / EVALUATION_PAGE).exists() else None
