"""`workbench runs`: lists the runs in the store."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_modules.showable import showable
from workbench._command import Document, add_store, count, number, open_store, print_table, table
from workbench._layout import csv_cells, screen_width

if TYPE_CHECKING:
    from datetime import datetime

    from experiments.tracking.runs import RunSummary

HELP = "list runs, newest first"
_SHOWN = 100  # rows of a table without --limit
_SCORES = 2  # metrics that are columns without --columns
_WIDE = 120  # characters of a screen that has room for whole times


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--sweep", metavar="NAME", help="only the runs of this sweep, or of these repeats")
    kinds = ["train", "sweep", "trial", "finalist", "repeats", "repeat", "reproduction", "comparison", "evaluation"]
    parser.add_argument("--kind", choices=kinds, metavar="KIND", help=f"only runs of this kind: {', '.join(kinds)}")
    outcomes = ["running", "finished", "pruned", "failed", "interrupted", "died"]
    text = f"only runs with this status: {', '.join(outcomes)}"
    parser.add_argument("--status", choices=outcomes, metavar="STATUS", help=text)
    parser.add_argument("--since", metavar="TIME", help="only runs started since TIME: 2026-11-24, 12h, 7d")
    parser.add_argument("--filter", default="", metavar="EXPR", help="MLflow's filter: metrics.`val/accuracy` > 0.9")
    parser.add_argument("--sort", metavar="METRIC", help="sort by this metric, best first (default: newest first)")
    parser.add_argument("--columns", metavar="A,B", help="metrics and params to show (default: val and test accuracy)")
    parser.add_argument("--limit", type=count, metavar="N", help=f"at most N runs (default for a table: {_SHOWN})")
    parser.add_argument("--csv", action="store_true", help="print every param and metric as CSV")


def run(args: argparse.Namespace) -> Document:
    from datetime import datetime

    from experiments.tracking.runs import list_runs, parse_since
    from lightning_modules.log import LOG

    since = parse_since(args.since, datetime.now()) if args.since else None
    shown_at_once = None if args.json or args.csv or args.sweep else _SHOWN
    limit = args.limit or shown_at_once
    options = {"sweep": args.sweep, "kind": args.kind, "status": args.status, "since": since, "sort": args.sort}
    found = list_runs(open_store(args.store), filter_string=args.filter, limit=limit, **options)
    if not args.limit and len(found) == shown_at_once:
        LOG.info(f"showing the first {shown_at_once} runs; --limit N shows more, --filter selects others")
    columns = [name.strip() for name in args.columns.split(",")] if args.columns else None
    for option, names in (("--sort", [args.sort] if args.sort else []), ("--columns", columns or [])):
        _check_names(option, names, found, args)
    return {"runs": [run.as_dict() for run in found], "columns": columns}


def _check_names(option: str, names: Sequence[str], runs: "Sequence[RunSummary]", args: argparse.Namespace) -> None:
    """Raises InputError for a name that no listed run has, and that no run can have."""
    from experiments import ExperimentConfig
    from experiments.config import flatten
    from experiments.tracking.store import command_on
    from lightning_modules import InputError
    from lightning_modules.errors import did_you_mean
    from lightning_modules.metrics import METRICS

    metrics = {f"{split}/{name}" for split in ("train", "val", "test") for name in METRICS}
    known = metrics.union(*(run.metrics for run in runs))
    if option == "--columns":
        known |= flatten(ExperimentConfig().tree()).keys() | {name for run in runs for name in run.params}
    for name in names:
        if runs and name not in known and not name.startswith("system/"):  # these are not in lists
            what = "metric" if option == "--sort" else "metric or param"
            remedy = f"{did_you_mean(name, known)}to see all names: {command_on(args.store, 'runs', '--csv')}"
            raise InputError(option, name, f"none of these runs has such a {what}", remedy)


def show(document: Document, args: argparse.Namespace) -> None:
    if args.csv:
        _print_csv(document)
    else:
        _print_rows(document)


def _print_rows(document: Document) -> None:
    from datetime import datetime

    names = document["columns"] or _scores(document)
    rows = table("run", "name", "kind", "outcome", "started", *names, prose=["name"])
    for run in document["runs"]:
        started = _shown(datetime.fromtimestamp(run["start_time"] / 1000))
        cells = [number(run["metrics"][n]) if n in run["metrics"] else run["params"].get(n, "") for n in names]
        rows.add_row(
            run["run_id"][:8], showable(run["name"]), run["kind"], run["outcome"] or run["status"], started, *cells
        )
    print_table(rows)


def _scores(document: Document) -> list[str]:
    """Returns the metrics that most of the runs are judged by, and their test accuracy if any has it."""
    known = (run["params"].get("trainer.monitor") for run in document["runs"])
    monitored = Counter(name for name in known if name is not None)
    shown = [name for name, _ in monitored.most_common(_SCORES)] or ["val/accuracy"]
    has_test = any("test/accuracy" in run["metrics"] for run in document["runs"]) or shown == ["val/accuracy"]
    return [*shown, "test/accuracy"] if has_test else shown


def _shown(time: "datetime") -> str:
    """Returns a time; on a narrow screen without seconds, and as `ls` does, with either the year or the hour."""
    if screen_width() >= _WIDE:
        return f"{time:%Y-%m-%d %H:%M:%S}"
    return f"{time:%m-%d %H:%M}" if time.year == time.now().year else f"{time:%Y-%m-%d}"


def _print_csv(document: Document) -> None:
    import csv

    runs = document["runs"]
    own = ["run_id", "name", "kind", "status", "outcome", "start_time"]
    names = document["columns"] or sorted({name for run in runs for name in [*run["params"], *run["metrics"]]})
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(csv_cells([*own, *names]))
    for run in runs:
        values = run["params"] | run["metrics"] | {name: run[name] for name in own}
        writer.writerow(csv_cells(values.get(name, "") for name in [*own, *names]))
