"""`workbench export`: a run's model as files that work without this project."""

import argparse
from pathlib import Path

from lightning_modules.showable import showable
from workbench._command import RUN_HELP, Document, add_store, add_trust, open_store, print_sentences, print_table, table

HELP = "write a run's model to a folder that works without this project: weights, programs, a container"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("folder", metavar="DIR", type=Path, help="a folder that is empty or does not exist")
    text = "also write the program in 8 bits, which needs the extra int8; accuracy and size are compared"
    parser.add_argument("--quantize", choices=["int8"], help=text)
    add_trust(parser)


def run(args: argparse.Namespace) -> Document:
    from experiments.export.export import export
    from experiments.tracking.trust import require_trust

    store = open_store(args.store)
    require_trust(store, args.trust, lambda: [f"the Python files in the model and the code of {args.run}"])
    return export(store, args.run, args.folder, quantize=args.quantize is not None)


def show(document: Document, args: argparse.Namespace) -> None:
    files = table("file", "format", "largest difference", "labels", "bytes")
    for file in document["files"]:
        labels = {None: "", True: "equal", False: "differ"}[file["labels_equal"]]
        difference = "" if file["max_difference"] is None else f"{file['max_difference']:.1e}"
        files.add_row(file["path"], file["format"], difference, labels, f"{file['bytes']:,}")
    print_table(files)
    sentences = [f"compared with the original model, without this project, on {document['compared']}"]
    if (cost := document["int8"]) is not None:
        accuracies = (
            f"{cost['accuracy_before']:.4f} → {cost['accuracy_after']:.4f} on {cost['images']:,} images of test"
        )
        sizes = f"{cost['bytes_before']:,} → {cost['bytes_after']:,} bytes"
        sentences.append(f"int8: accuracy {accuracies}, {sizes}")
    sentences += [f"{each['path']} is left out: {each['reason']}" for each in document["left_out"]]
    print_sentences(map(showable, [*sentences, f"written to {document['folder']}"]))
