"""`workbench evaluate`: how accurate, calibrated and robust a run's model is."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_modules.showable import showable
from workbench._command import (
    RUN_HELP,
    Document,
    add_store,
    add_trust,
    number,
    open_store,
    print_dashboard,
    print_next,
    print_sentences,
    print_table,
    table,
)
from workbench._layout import print_lines

if TYPE_CHECKING:
    from rich.table import Table

HELP = "measure a run's accuracy, calibration, and robustness to corrupted images"
_MOST_CLASSES = 30  # rows of a table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; of several runs, each is a seed")
    text = "your own images: an .npz with x and y, or a folder of class/picture (default: the run's test images)"
    parser.add_argument("--data", metavar="PATH", type=Path, help=text)
    text = "what corruption errors are relative to (default: the own settings of the run's sweep, if it ran them)"
    parser.add_argument("--against", metavar="RUN", help=text)
    add_trust(parser)


def run(args: argparse.Namespace) -> Document:
    from experiments.code.scratch import scratch_folder
    from experiments.evaluation.against import Against, own_settings
    from experiments.evaluation.evaluate import evaluate
    from experiments.evaluation.progress import progress
    from experiments.evaluation.report import store_evaluation
    from experiments.results.artifacts import Artifacts
    from experiments.tracking.runs import resolve_trained
    from experiments.tracking.trust import require_trust

    store = open_store(args.store)
    runs = resolve_trained(store, args.run)
    require_trust(store, args.trust, lambda: [f"the Python files in the model of {args.run}"])
    with scratch_folder(store.folder / "scratch") as scratch, progress() as showing:
        artifacts = Artifacts(store, scratch)
        against = own_settings(artifacts, runs)
        if args.against:
            against = Against(name=args.against, runs=resolve_trained(store, args.against), is_given=True)
        evaluation = evaluate(artifacts, runs, data=args.data, against=against, showing=showing)
        return store_evaluation(store, runs, evaluation)


def show(document: Document, args: argparse.Namespace) -> None:
    from experiments.evaluation.text import sentences

    print_sentences(sentences(document))
    print_table(_corruptions(document))
    if len(document["classes"]) <= _MOST_CLASSES:
        print_table(_classes(document))
    if document["page"]:
        print_lines(f"page       {document['page']}")
    print_lines(f"logged as  {document['evaluation_run_id']}")
    print_dashboard(document | {"dashboard_url": document["evaluation_url"]}, args, "this evaluation")
    print_next("next", args, ["compare", document["run_id"][:8], "RUN"], ["promote", document["run_id"][:8]])


def _corruptions(document: Document) -> "Table":
    """Returns the accuracy by corruption and strength, and the error of each corruption."""
    errors = document["corruption_error"]
    relative = errors["relative_by_corruption"]
    strengths = sorted({row["strength"] for row in document["corruptions"]})
    rows = table("accuracy at", *map(str, strengths), "mean error", *(["relative"] if relative else []))
    for name, error in errors["by_corruption"].items():
        values = (number(row["accuracy"]) for row in document["corruptions"] if row["name"] == name)
        rows.add_row(name, *values, number(error), *([f"{relative[name]:.3f}"] if relative else []))
    return rows


def _classes(document: Document) -> "Table":
    rows = table("class", "images", "accuracy", "95 % interval", "precision", "f1")
    for row in document["classes"]:
        interval = "[{:.4f}, {:.4f}]".format(*row["ci95"]) if row["ci95"] else ""
        scores = number(row["precision"]), number(row["f1"])
        rows.add_row(showable(row["class"]), str(row["images"]), number(row["accuracy"]), interval, *scores)
    return rows
