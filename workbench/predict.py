"""`workbench predict`: labels and probabilities for pictures and arrays, by a run's model."""

import argparse
import csv
import sys
from pathlib import Path

from lightning_modules.showable import showable
from workbench._command import RUN_HELP, Document, add_store, add_trust, open_store, print_table, table
from workbench._layout import csv_cells

HELP = "label pictures, folders of pictures and arrays with a run's model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    inputs = "pictures, folders of pictures, .npy and .npz files"
    parser.add_argument("inputs", metavar="FILE", nargs="+", type=Path, help=inputs)
    add_trust(parser)
    parser.add_argument("--csv", action="store_true", help="print CSV: input, label, and a column for each class")


def run(args: argparse.Namespace) -> Document:
    from experiments.serving.predict import predict
    from experiments.tracking.trust import require_trust

    store = open_store(args.store)
    require_trust(store, args.trust, lambda: [f"the Python files in the model of {args.run}"])
    return {"predictions": predict(store, args.run, args.inputs)}


def show(document: Document, args: argparse.Namespace) -> None:
    found = document["predictions"]
    if args.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(csv_cells(["input", "label", "label_index", *found[0]["probabilities"]]))
        for line in found:
            words = (line["input"], line["label"], line["label_index"])
            writer.writerow(csv_cells([*words, *line["probabilities"].values()]))
        return
    answers = table("input", "label", "probability")
    for line in found:
        answers.add_row(
            showable(line["input"]), showable(str(line["label"])), f"{max(line['probabilities'].values()):.4f}"
        )
    print_table(answers)
