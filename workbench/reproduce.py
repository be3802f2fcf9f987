"""`workbench reproduce`: runs past runs again, and gives each a verdict."""

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from workbench._command import FIELDS_HELP, RUN_HELP, Document, Stream, add_store, add_trust, count, number, open_store
from workbench._layout import print_lines, print_prose

if TYPE_CHECKING:
    from experiments import Store
    from experiments.reproduction.reproduce import Settings

HELP = "run past runs again, and report whether the results are the same"
FIELDS = FIELDS_HELP
RECORDS_CODE = True
_INDENT = "  "
_BAD = {"different", "cannot_run", "record_altered"}


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
    add_trust(parser)


def run(args: argparse.Namespace) -> Document:
    from pathlib import Path

    from experiments.config import check_paths, located_overrides
    from experiments.recipe import parse_overrides
    from experiments.reproduction.reproduce import Settings
    from experiments.reproduction.what_would_run import what_would_run
    from experiments.tracking.runs import resolve, with_repeats
    from experiments.tracking.trust import require_trust

    overrides = parse_overrides(args.fields)
    check_paths(overrides)
    overrides = located_overrides(overrides, [Path.cwd()])
    store = open_store(args.store)
    names = ("code", "env", "epochs", "rtol", "atol", "seeds", "explain")
    settings = Settings(overrides=overrides, **{name: getattr(args, name) for name in names})
    found = [run for word in args.runs for run in resolve(store, word)]
    run_ids = list(dict.fromkeys(run.run_id for run in with_repeats(store, found)))
    require_trust(store, args.trust, lambda: what_would_run(store, run_ids, settings))
    return {"results": Stream(_results(store, run_ids, settings))}


def _results(store: "Store", run_ids: Sequence[str], settings: "Settings") -> Iterator[dict[str, Any]]:
    """Yields a result for each run. If there are several, a wrong override costs only the result of its run."""
    from experiments.reproduction.reproduce import not_run, reproduce
    from lightning_modules import InputError

    for run_id in run_ids:
        try:
            yield reproduce(store, run_id, settings).as_dict()
        except InputError as error:
            if len(run_ids) == 1:
                raise
            yield not_run(run_id, f"{error.field}: {error.message} (got {error.value!r})", error.remedy).as_dict()


def exit_code(document: Document) -> int:
    return int(any(result["verdict"] in _BAD for result in document["results"].seen))


def show(document: Document, args: argparse.Namespace) -> None:
    for result in document["results"]:
        print_lines(f"{result['run_id']}  {result['verdict']}")
        if result["reason"]:
            print_prose(f"{result['reason']}; {result['remedy']}", _INDENT)
        if result["record"]["state"] == "incomplete":
            print_prose(f"its record is incomplete: {'; '.join(result['record']['problems'])}", _INDENT)
        if result["record"]["signed_by"]:
            print_lines(f"  its record is signed by {result['record']['signed_by']}")
        if difference := result["first_difference"]:
            where = difference["stage"] + (f" {difference['epoch']}" if difference["epoch"] else "")
            print_prose(f"first difference: {where} ({', '.join(difference['what'])})", _INDENT)
        for cause in result["causes"]:
            if cause["kind"] not in ("cannot_run", "record_altered"):
                print_prose(f"{cause['kind']}: {cause['detail']}", _INDENT)
        for tested in result["explanations"]:
            effect = "makes the result equal" if tested["restores"] else "does not"
            print_prose(f"{tested['suspect']}: {effect}", _INDENT)
        for line in result["metrics"]:
            print_lines(f"  {line['name']}: {number(line['recorded'])}, now {number(line['reproduced'])}")
        if result["reproduction_run_id"]:
            print(f"  re-run {result['reproduction_run_id']}", flush=True)
