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
    count,
    number,
    open_store,
    print_dashboard,
    print_next,
    print_sentences,
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
    text = "train with N seeds, the recipe's own and those that follow, and show the mean; the same command continues"
    parser.add_argument("--seeds", type=count, metavar="N", help=text)
    text = "cross-validation: train N times, each time with another fold as the validation images"
    parser.add_argument("--folds", type=count, metavar="N", help=text)
    text = "with --seeds or --folds: runs at a time (default: one per core)"
    parser.add_argument("--workers", type=count, metavar="N", help=text)
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
    repeats = _repeats_of(args)
    overrides = parse_overrides(args.fields)
    config = None
    if args.recipe is not None:
        check_kind(args.recipe, "experiment", args.store)
        config = load_config(args.recipe, overrides)
        if repeats:
            return _repeat(config, repeats, args)
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


def _repeats_of(args: argparse.Namespace) -> dict[str, int]:
    """Returns what --seeds or --folds asks for. Raises UsageError for options that do not go with it."""
    repeats = {name: getattr(args, name) for name in ("seeds", "folds") if getattr(args, name) is not None}
    if len(repeats) > 1:
        raise UsageError("each run would have both a seed and a fold: give --seeds or --folds")
    if args.workers is not None and not repeats:
        raise UsageError("--workers is for --seeds and --folds: one run has one process")
    if repeats and args.resume:
        raise UsageError(f"the same command continues --{next(iter(repeats))}: leave --resume out")
    return repeats


def _repeat(config: "ExperimentConfig", repeats: dict[str, int], args: argparse.Namespace) -> Document:
    from pathlib import Path

    from sweeps import repeat
    from sweeps.repeats.plan import plan_repeats

    name = args.name or Path(args.recipe).stem
    if args.dry_run:
        from experiments.dry_run import dry_run

        plan = plan_repeats(config, name=name, **{"seeds": None, "folds": None, **repeats})
        return dry_run(plan.base, args.store).as_dict()
    result = repeat(
        config,
        **repeats,
        name=name,
        store=open_store(args.store),
        workers=args.workers,
        tags=dict(args.tag),
        notes=args.notes,
        code_may_change=args.code == "today",
        progress=True,
    )
    return result.as_dict()


def _recorded_config(store: "Store", run_id: str, is_trusted: bool) -> "ExperimentConfig":
    """Returns the config that a run has recorded, if the user trusts the store: the config names code that will run."""
    from experiments.reproduction.reproduce import Settings
    from experiments.reproduction.what_would_run import what_would_run
    from experiments.resume import recorded_config
    from experiments.tracking.trust import require_trust

    require_trust(store, is_trusted, lambda: what_would_run(store, [run_id], Settings(code="today")))
    return recorded_config(store, run_id)


def exit_code(document: Document) -> int:
    return int("error" in document or document.get("mean", 0.0) is None)


def show(document: Document, args: argparse.Namespace) -> None:
    if args.dry_run:
        show_dry_run(document)
        return
    if args.seeds or args.folds:
        _show_repeats(document, args)
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


def _show_repeats(document: Document, args: argparse.Namespace) -> None:
    from sweeps.repeats.result import sentences
    from sweeps.report.leaderboard import as_text

    print_sentences(sentences(document))
    means = table("metric", "mean", "95 % interval")
    scores = {document["metric"]: document, **document["test"]}
    for name, score in scores.items():
        mean, _, interval = as_text(score).partition(" ") if score["mean"] is not None else ("", "", "")
        means.add_row(name, mean, interval)
    print_table(means)
    by = document["by"][:-1]
    runs = table(by, document["metric"], "outcome", "run")
    for run in document["runs"]:
        runs.add_row(str(run[by]), number(run["value"]), run["outcome"], (run["run_id"] or "")[:8])
    print_table(runs)
    print_lines(f"repeats    {document['parent_run_id']}  ({showable(document['name'])})")
    print_dashboard(document, args, "these runs")
    parent = document["parent_run_id"][:8]
    print_next("next", args, ["compare", parent, "RUN"], ["reproduce", parent])
