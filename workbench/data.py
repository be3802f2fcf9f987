"""`workbench data`: lists data sets, downloads one, or checks one for faults."""

import argparse

from lightning_modules.showable import showable
from workbench._command import Document, UsageError, add_store, print_table, table
from workbench._layout import print_lines

HELP = "list the data sets, download one, or check one for faults"
FIELDS = "check accepts the data fields of a recipe: --data.labels_path FILE --data.image_size 64 --data.channels 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("action", choices=["list", "fetch", "check"])
    text = "the data set's name; for check, also your own file or folder"
    parser.add_argument("source", nargs="?", metavar="NAME-OR-PATH", help=text)
    text = "the folder of downloads (default: WORKBENCH_DATA, else a cache)"
    parser.add_argument("--root", metavar="DIR", help=text)


def run(args: argparse.Namespace) -> Document:
    from lightning_modules.datasets import SourceOptions, all_sources, find_source
    from lightning_modules.errors import InputError

    if args.fields and args.action != "check":
        raise UsageError(f"unrecognized arguments: {' '.join(args.fields)}")
    if args.action == "list":
        return {"sources": {name: source.summary for name, source in all_sources().items()}}
    if args.source is None:
        raise InputError("NAME", None, f"{args.action} needs the name of a data set", "see: workbench data list")
    if args.action == "check":
        from experiments.recipe import parse_overrides
        from experiments.results.data_report import check

        root = {} if args.root is None else {"data.root": args.root}
        return check(args.source, root | parse_overrides(args.fields))
    fetch = find_source(args.source).fetch
    if fetch is None:
        raise InputError("NAME", args.source, "has nothing to download", "see: workbench data list")
    return {"source": args.source, "folder": str(fetch(SourceOptions(root=args.root)))}


def show(document: Document, args: argparse.Namespace) -> None:
    if args.action == "fetch":
        print_lines(f"{document['source']} is complete in {document['folder']}")
    elif args.action == "check":
        _show_findings(document)
    else:
        sources = table("data.source", "what it is", prose=["what it is"])
        for name, summary in document["sources"].items():
            sources.add_row(name, summary)
        print_table(sources)


def _show_findings(document: Document) -> None:
    splits = table("split", "images", "height × width × channels", "type", "images a class")
    for split, summary in document["splits"].items():
        counts = summary["classes"].values()
        size = " × ".join(map(str, summary["shape"]))
        splits.add_row(split, str(summary["count"]), size, summary["dtype"], f"{min(counts)} to {max(counts)}")
    print_table(splits)
    if document["findings"]:
        findings = table("kind", "split", "count", "what", "for example", prose=["what", "for example"])
        for finding in document["findings"]:
            examples = "\n".join(_example(example) for example in finding["examples"][:5])
            findings.add_row(finding["kind"], finding["split"], str(finding["count"]), finding["message"], examples)
        print_table(findings)
    else:
        print("nothing found")
    print_lines(f"{document['path']}  SHA-256 {document['sha256']}")


def _example(example: Document) -> str:
    """`12 cat/a.png (cat) = test 7 (dog)`"""
    words = [showable(str(example[key])) for key in ("split", "index", "file") if key in example]
    words += [f"({showable(example['class'])})"] if "class" in example else []
    words += [example["what"]] if "what" in example else []
    words += ["=", _example(example["same_as"])] if "same_as" in example else []
    return " ".join(words)
