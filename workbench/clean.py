"""`workbench clean`: lists what the store can do without, and removes it with --yes."""

import argparse

from workbench._command import Document, add_store, print_next, print_table, table
from workbench._layout import print_lines

HELP = "list what the store can do without, and remove it with --yes"
_KINDS = {
    "trial_checkpoint": "checkpoints of trials whose sweep has its finalists",
    "checkpoint": "checkpoints that their finished run does not keep",
    "deleted_run": "runs deleted in MLflow, with their artifacts",
    "orphan": "artifacts that belong to no run",
    "temporary": "files of processes that were killed",
    "cache": "what is made again when it is needed",
    "code": "room in code.git",
    "database": "room in the databases",
}
_SHOWN = 50  # rows of the table, the largest first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--yes", action="store_true", help="remove it; without --yes nothing is changed")
    kinds = "; ".join(f"{name}: {text}" for name, text in _KINDS.items())
    parser.add_argument("--only", nargs="+", choices=list(_KINDS), metavar="WHAT", help=f"only these: {kinds}")


def run(args: argparse.Namespace) -> Document:
    from experiments.upkeep.clean import KINDS, clean, look

    found = (clean if args.yes else look)(args.store, args.only or KINDS)
    return {
        "items": [item.as_dict() for item in found.items],
        "freed_bytes": found.freed_bytes,
        "removed": args.yes,
        "left_out": found.left_out,
    }


def show(document: Document, args: argparse.Namespace) -> None:
    items = sorted(document["items"], key=lambda item: -item["bytes"])
    if items:
        rows = table("what", "path", "size")
        for item in items[:_SHOWN]:
            rows.add_row(item["what"], item["path"], _size(item["bytes"]))
        print_table(rows)
    if len(items) > _SHOWN:
        print(f"and {len(items) - _SHOWN} smaller ones; --json lists all")
    for line in document["left_out"]:
        print_lines(f"left out: {line}")
    total = _size(sum(item["bytes"] for item in items))
    if not items:
        print("nothing to remove")
    elif document["removed"]:
        print(f"removed: {total}")
    else:
        print(f"can be removed: {total}")
        print_next("remove it", args, ["clean", "--yes", *(["--only", *args.only] if args.only else [])])


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
