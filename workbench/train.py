"""`workbench train`: runs one recipe as a tracked run."""

import argparse
import sys
from typing import TYPE_CHECKING

from lightning_modules.showable import showable
from workbench._command import (
    FIELDS_HELP,
    Document,
    UsageError,
    add_code_option,
    add_store,
    add_trust,
    open_store,
    print_dashboard,
    print_next,
    print_table,
    table,
)
from workbench._dry_run import show_dry_run
from workbench._layout import print_lines
from workbench._recipes import check_kind, list_recipes

if TYPE_CHECKING:
    from experiments import ExperimentConfig, Store

HELP = "train, validate and test one recipe as a tracked run"
FIELDS = FIELDS_HELP
RECORDS_CODE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    text = "the name of a recipe, or the path of a YAML file (with --resume: default: the run's own config)"
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help=text)
    parser.add_argument("--name", metavar="TEXT", help="the run's name (default: the recipe's)")
    parser.add_argument("--resume", metavar="RUN", help="resume this run, which was interrupted, failed or died")
    add_code_option(parser, "run")
    text = "show what would run: the config, the data, the network and the learning rate; writes nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    text = "a tag of your own for the run in MLflow; may be repeated"
    parser.add_argument("--tag", action="append", default=[], type=_tag, metavar="NAME=VALUE", help=text)
    parser.add_argument("--notes", metavar="TEXT", help="what MLflow shows above the run's description")
    add_trust(parser)


def more_help() -> str:
    return list_recipes("experiment")


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def run(args: argparse.Namespace) -> Document:
    from pathlib import Path

    from experiments import load_config, run
    from experiments.recipe import parse_overrides
    from experiments.tracking.runs import resolve_one
    from experiments.training.devices import launched
    from lightning_modules.log import LOG

    if args.recipe is None and not args.resume:
        raise UsageError("give a RECIPE, or a run to continue: --resume RUN")
    if args.dry_run and args.resume:
        raise UsageError("--dry-run shows a new run: leave --resume out")
    overrides = parse_overrides(args.fields)
    config = None
    if args.recipe is not None:
        check_kind(args.recipe, "experiment", args.store)
        config = load_config(args.recipe, overrides)
        if args.dry_run:
            from experiments.dry_run import dry_run

            return dry_run(config, args.store).as_dict()
    if (place := launched()) is not None and place.rank > 0:
        if config is None:
            raise UsageError(f"give the RECIPE, too: {place.launcher} has started several processes")
        run(config)
        sys.exit()  # the process of rank 0 has the run, and shows it
    store = open_store(args.store)
    resume = resolve_one(store, args.resume).run_id if args.resume else None
    if config is None:
        config = _recorded_config(store, str(resume), args.trust).with_overrides(overrides)
    result = run(
        config,
        name=args.name or (args.recipe and Path(args.recipe).stem),
        store=store,
        resume=resume,
        tags=dict(args.tag),
        notes=args.notes,
        code_may_change=args.code == "today",
        progress=True,
    )
    document = result.as_dict()
    del document["error"]
    if result.error:
        LOG.error(f"error: {result.error}")
        document["error"] = {"field": None, "value": None, "message": result.error, "remedy": None}
    return document


def _recorded_config(store: "Store", run_id: str, is_trusted: bool) -> "ExperimentConfig":
    """Returns the config that a run has recorded, if the user trusts the store: the config names code that will run."""
    from experiments.reproduction.reproduce import Settings
    from experiments.reproduction.what_would_run import what_would_run
    from experiments.resume import recorded_config
    from experiments.tracking.trust import require_trust

    require_trust(store, is_trusted, lambda: what_would_run(store, [run_id], Settings(code="today")))
    return recorded_config(store, run_id)


def exit_code(document: Document) -> int:
    return int("error" in document)


def show(document: Document, args: argparse.Namespace) -> None:
    if args.dry_run:
        show_dry_run(document)
        return
    metrics = table("metric", "value")
    for name, value in sorted(document["metrics"].items()):
        metrics.add_row(name, f"{value:.4f}")
    print_table(metrics)
    print_lines(f"run        {document['run_id']}  ({showable(document['name'])}, {document['outcome']})")
    print_lines(f"artifacts  {document['artifact_uri']}")
    print_dashboard(document, args, "this run")
    if document["outcome"] == "finished":
        run_id = document["run_id"][:8]
        print_next("next", args, ["compare", run_id, "RUN"], ["reproduce", run_id], ["predict", run_id, "FILE"])
