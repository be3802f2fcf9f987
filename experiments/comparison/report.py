"""Writes a comparison as one page with pictures, to a file or to a run in MLflow."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.artifact_names import COMPARISON, COMPARISON_PAGE, PLOTS
from experiments.code.scratch import scratch_folder
from experiments.comparison.compare import Document
from experiments.comparison.pictures import Pictures
from experiments.comparison.text import cell, field, group, group_columns, labels, score, short_cell, verdicts
from experiments.results.artifacts import Artifacts
from experiments.results.webpage import heading, link, paragraph, picture, table, webpage
from experiments.tracking.lifecycle import create_run, open_run
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from lightning_modules import InputError

_MOST_COLUMNS = 12  # up to this many runs are columns; more are rows


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
        "mlflow.note.content": "\n\n".join([*verdicts(document), *document["notes"]]),
    }
    run_id = create_run(store, experiment=experiment, name=_title(document), kind="comparison")
    with open_run(store, run_id) as tracked:
        tracked.set_tags(tags)
        finite = json.loads(json.dumps(document), parse_constant=lambda _: None)  # JSON has no NaN
        (tracked.folder / COMPARISON).write_text(json.dumps(finite, indent=2), encoding="utf-8")
        (tracked.folder / COMPARISON_PAGE).write_text(text, encoding="utf-8")
        shutil.copytree(plots, tracked.folder / PLOTS, dirs_exist_ok=True)
    return run_id


def _title(document: Document) -> str:
    names = [run["name"] for run in document["runs"]]
    return f"{names[0]} against {names[1]}" if len(names) == 2 else f"comparison of {len(names)} runs"


def _page(document: Document, pictures: dict[str, Path], to_serve: str) -> str:
    """Returns the page. `to_serve`: the command that starts the dashboard."""
    groups = [group(found) for found in document["groups"]]
    parts = [
        heading(_title(document), level=1),
        *(paragraph(sentence) for sentence in [*verdicts(document), *document["notes"]]),
        link(f"MLflow's own comparison of these runs (start it with: {to_serve})", document["dashboard_url"]),
        *([heading("Groups"), table(group_columns(document), groups)] if groups else []),
        *(_runs_as_columns(document) if len(document["runs"]) <= _MOST_COLUMNS else _runs_as_rows(document)),
        *(picture(title, path) for title, path in pictures.items()),
    ]
    return webpage(_title(document), parts)


def _runs_as_columns(document: Document) -> list[str]:
    named = labels(document)
    differences = [(field(row), *(cell(row, run_id) for run_id in named)) for row in document["differences"]]
    metrics = [(row["name"], *(score(row, run_id) for run_id in named)) for row in document["metrics"]]
    columns = ("", *named.values())
    return [heading("What differs"), table(columns, differences), heading("Metrics"), table(columns, metrics)]


def _runs_as_rows(document: Document) -> list[str]:
    named = labels(document)
    scores = {place["run_id"]: f"{place['score']:.4f}" for place in document["ranking"]}
    shown = [row for row in document["differences"] if row["kind"] == "param"]
    also = ", ".join(field(row) for row in document["differences"] if row not in shown)
    ids = [*scores, *(run_id for run_id in named if run_id not in scores)]
    rows = [(named[run_id], scores.get(run_id, ""), *(short_cell(row, run_id) for row in shown)) for run_id in ids]
    columns = ("run", document["metric"], *(row["field"] for row in shown))
    return [heading("Runs"), paragraph(f"Other differences: {also}.") if also else "", table(columns, rows)]
