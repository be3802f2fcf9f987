"""`workbench reproduce`: runs past runs again, and gives each a verdict."""

import argparse
import sys

from workbench._command import FIELDS_HELP, RUN_HELP, Document, add_store, count, number, open_store

HELP = "run past runs again, and report whether the results are the same"
FIELDS = FIELDS_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    versions = ["recorded", "today"]
    parser.add_argument("--code", choices=versions, default="recorded", help="which code to run (default: recorded)")
    parser.add_argument("--env", choices=versions, default="today", help="which packages to use (default: today)")
    parser.add_argument("--epochs", type=count, metavar="K", help="run only the first K epochs")
    text = "relative tolerance of losses (default: 0.05)"
    parser.add_argument("--rtol", type=float, default=0.05, metavar="X", help=text)
    text = "absolute tolerance of all other metrics (default: 0.01)"
    parser.add_argument("--atol", type=float, default=0.01, metavar="X", help=text)
    text = "compare a difference with the spread of N fresh seeds"
    parser.add_argument("--seeds", type=count, default=0, metavar="N", help=text)
    parser.add_argument("--explain", action="store_true", help="test the suspected causes one at a time")
    parser.add_argument("--trust", action="store_true", help="allow code from another store to run")


def run(args: argparse.Namespace) -> Document:
    from experiments.recipe import parse_overrides
    from experiments.reproduction.reproduce import Settings, reproduce
    from experiments.tracking.runs import resolve

    store = open_store(args.store)
    names = ("code", "env", "epochs", "rtol", "atol", "seeds", "explain")
    settings = Settings(overrides=parse_overrides(args.fields), **{name: getattr(args, name) for name in names})
    if not (store.is_local or args.trust):
        _ask_for_trust(store.tracking_uri)
    run_ids = dict.fromkeys(run.run_id for word in args.runs for run in resolve(store, word))
    return {"results": [reproduce(store, run_id, settings).as_dict() for run_id in run_ids]}


def exit_code(document: Document) -> int:
    return int(any(result["verdict"] in {"different", "cannot_run"} for result in document["results"]))


def _ask_for_trust(tracking_uri: str) -> None:
    """Raises InputError unless the user agrees to run code (recorded patches, networks) from another store."""
    from experiments.process.redaction import without_credentials
    from lightning_modules import InputError

    where = without_credentials(tracking_uri)
    if sys.stdin.isatty():
        print(f"Runs from {where} contain code. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return
    raise InputError("--trust", where, "runs in another store contain code of its users", "add --trust to run it")


def show(document: Document, args: argparse.Namespace) -> None:
    for result in document["results"]:
        print(f"{result['run_id']}  {result['verdict']}")
        if result["verdict"] == "cannot_run":
            print(f"  {result['reason']}; {result['remedy']}")
            continue
        if difference := result["first_difference"]:
            where = difference["stage"] + (f" {difference['epoch']}" if difference["epoch"] else "")
            print(f"  first difference: {where} ({', '.join(difference['what'])})")
        for cause in result["causes"]:
            print(f"  {cause['kind']}: {cause['detail']}")
        for tested in result["explanations"]:
            print(f"  {tested['suspect']}: {'makes the result equal' if tested['restores'] else 'does not'}")
        for line in result["metrics"]:
            print(f"  {line['name']}: {number(line['recorded'])}, now {number(line['reproduced'])}")
        print(f"  re-run {result['reproduction_run_id']}")
