"""Writes a comparison as one page with pictures, to a file or to a run in MLflow."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.artifact_names import COMPARISON, COMPARISON_PAGE, PLOTS
from experiments.code.scratch import scratch_folder
from experiments.comparison.compare import Document
from experiments.comparison.page import parts_of, title_of
from experiments.comparison.pictures import Pictures
from experiments.comparison.text import verdicts
from experiments.results.artifacts import Artifacts
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from experiments.webpage import heading, picture, webpage
from lightning_modules import InputError
from lightning_modules.showable import in_markdown, showable

_NAME = 220  # characters of the name of its run


def report(
    store: Store, runs: Sequence[RunSummary], document: Document, *, html: str | None, log: bool
) -> dict[str, Any]:
    """Draws a comparison of `runs`; writes its page to the file `html`, and with `log` to a new run in the store.

    Returns what to add to the document: `html`, `comparison_run_id`, and `notes` extended by those on missing pictures.
    Raises InputError if the file cannot be written.
    """
    with scratch_folder(store.folder / "scratch") as scratch:
        by_id = {run.run_id: run for run in runs}
        pictures = Pictures(Artifacts(store, scratch), by_id, document, scratch / PLOTS, {}, [])
        pictures.draw()
        document = document | {"notes": [*document["notes"], *pictures.notes]}
        text = _page(document, pictures.drawn, store.command("ui"))
        more: dict[str, Any] = {"notes": document["notes"]}
        if html:
            more["html"] = str(_written(Path(html), text))
        if log:
            more["comparison_run_id"] = _logged(store, document, text, pictures.folder)
    return more


def _written(path: Path, text: str) -> Path:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("--html", str(path), f"cannot be written: {error.strerror}", "name another file") from error
    return path.absolute()


def _logged(store: Store, document: Document, text: str, plots: Path) -> str:
    """Creates the run, in the experiment of the first run compared, and returns its id."""
    first = document["runs"][0]
    experiment = store.client.get_experiment(first["experiment_id"]).name
    ids = [run["run_id"] for run in document["runs"]]
    tags = {
        "workbench.compares": ",".join(ids)[:5000],
        "mlflow.note.content": "\n\n".join(map(in_markdown, [*verdicts(document), *document["notes"]])),
    }
    run_id = create_run(store, experiment=experiment, name=showable(title_of(document), _NAME), kind="comparison")
    with open_run(store, run_id) as tracked:
        tracked.set_tags(tags)
        finite = json.loads(json.dumps(document), parse_constant=lambda _: None)  # JSON has no NaN
        (tracked.folder / COMPARISON).write_text(json.dumps(finite, indent=2), encoding="utf-8")
        (tracked.folder / COMPARISON_PAGE).write_text(text, encoding="utf-8")
        shutil.copytree(plots, tracked.folder / PLOTS, dirs_exist_ok=True)
    return run_id


def _page(document: Document, pictures: dict[str, Path], to_serve: str) -> str:
    drawn = [picture(title, path) for title, path in pictures.items()]
    parts = parts_of(document, to_serve)
    return webpage(title_of(document), [heading(title_of(document), level=1), *parts, *drawn])
