"""`workbench train`: runs one recipe as a tracked run."""

import argparse

from workbench._command import (
    FIELDS_HELP,
    Document,
    add_code_option,
    add_store,
    open_store,
    print_dashboard,
    print_table,
    table,
)

HELP = "train, validate and test one recipe as a tracked run"
FIELDS = FIELDS_HELP
RECORDS_CODE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("recipe", metavar="RECIPE", help="the name of a recipe, or the path of a YAML file")
    parser.add_argument("--name", metavar="TEXT", help="the run's name (default: the recipe's)")
    parser.add_argument("--resume", metavar="RUN", help="resume this run, which was interrupted, failed or died")
    add_code_option(parser, "run")


def run(args: argparse.Namespace) -> Document:
    from pathlib import Path

    from experiments import load_config, run
    from experiments.recipe import parse_overrides
    from experiments.tracking.runs import resolve_one
    from lightning_modules.log import LOG

    config = load_config(args.recipe, parse_overrides(args.fields))
    name = args.name or Path(args.recipe).stem
    store = open_store(args.store)
    resume = resolve_one(store, args.resume).run_id if args.resume else None
    result = run(config, name=name, store=store, resume=resume, code_may_change=args.code == "today", progress=True)
    document = result.as_dict()
    del document["error"]
    if result.error:
        LOG.error(f"error: {result.error}")
        document["error"] = {"field": None, "value": None, "message": result.error, "remedy": None}
    return document


def exit_code(document: Document) -> int:
    return int("error" in document)


def show(document: Document, args: argparse.Namespace) -> None:
    metrics = table("metric", "value")
    for name, value in sorted(document["metrics"].items()):
        metrics.add_row(name, f"{value:.4f}")
    print_table(metrics)
    print(f"run        {document['run_id']}  ({document['name']}, {document['outcome']})")
    print(f"artifacts  {document['artifact_uri']}")
    print_dashboard(document)
