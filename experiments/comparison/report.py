"""Writes a comparison as one page, to a file or to a run in MLflow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.artifact_names import COMPARISON, COMPARISON_PAGE
from experiments.code.scratch import scratch_folder
from experiments.comparison.compare import Document
from experiments.comparison.differences import read_provenances
from experiments.comparison.page import page, title_of
from experiments.comparison.text import robustness_verdicts, verdicts
from experiments.pages.pictures import as_url
from experiments.results.artifacts import Artifacts
from experiments.results.run_images import NoImages, read_split
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.showable import in_markdown, showable

_NAME = 220  # characters of the name of its run


def report(
    store: Store, runs: Sequence[RunSummary], document: Document, *, html: str | None, log: bool
) -> dict[str, Any]:
    """Writes the page of a comparison of `runs` to the file `html`, and with `log` to a new run in the store.

    Returns what to add to the document: `html`, `comparison_run_id`, and `notes` extended by one on missing images.
    Raises InputError if the file cannot be written.
    """
    notes = list(document["notes"])
    images: list[str] = []
    if (answers := document["answers"]) is not None:
        first = [run for run in runs if run.run_id == answers["runs"][0]]
        indices = [each["index"] for each in answers["disagreements"]]
        with scratch_folder(store.folder / "scratch") as scratch:
            artifacts = Artifacts(store, scratch)
            try:
                (recorded,) = read_provenances(artifacts, first)
                subset = read_split(artifacts, recorded.run, recorded.provenance, answers["split"])
                images = [as_url(subset.images[index]) for index in subset.indices[indices]]
            except NoImages as reason:
                notes.append(f"the images on which two runs disagree are not shown: {reason}")
    document = document | {"notes": notes}
    text = page(document, images, store.command("ui"))
    more: dict[str, Any] = {"notes": notes}
    if html:
        more["html"] = str(_written(Path(html), text))
    if log:
        more["comparison_run_id"] = _logged(store, document, text)
    return more


def _written(path: Path, text: str) -> Path:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("--html", str(path), f"cannot be written: {error.strerror}", "name another file") from error
    return path.absolute()


def _logged(store: Store, document: Document, text: str) -> str:
    """Creates the run, in the experiment of the first run compared, and returns its id."""
    first = document["runs"][0]
    experiment = store.client.get_experiment(first["experiment_id"]).name
    ids = [run["run_id"] for run in document["runs"]]
    tags = {
        "workbench.compares": ",".join(ids)[:5000],
        "mlflow.note.content": "\n\n".join(
            map(in_markdown, [*verdicts(document), *robustness_verdicts(document), *document["notes"]])
        ),
    }
    run_id = create_run(store, experiment=experiment, name=showable(title_of(document), _NAME), kind="comparison")
    with open_run(store, run_id) as tracked:
        tracked.set_tags(tags)
        finite = json.loads(json.dumps(document), parse_constant=lambda _: None)  # JSON has no NaN
        (tracked.folder / COMPARISON).write_text(json.dumps(finite, indent=2), encoding="utf-8")
        (tracked.folder / COMPARISON_PAGE).write_text(text, encoding="utf-8")
    return run_id
