"""`workbench compare`: shows what differs between runs, and whether one is really better."""

import argparse
from typing import TYPE_CHECKING, Any

from lightning_modules.showable import showable
from workbench._command import (
    RUN_HELP,
    Document,
    UsageError,
    add_store,
    number,
    open_store,
    print_dashboard,
    print_sentences,
    print_table,
    table,
)
from workbench._layout import print_lines

if TYPE_CHECKING:
    from rich.table import Table

HELP = "show what differs between runs, and how their metrics differ"
_MOST_COLUMNS = 4  # up to this many runs are columns; more are rows
_LONGEST_NAME = 20  # characters of a column's name
_MOST_ROWS, _MOST_PARAMS = 20, 8  # of a table with one row per run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=RUN_HELP)
    text = "compare all trials and finalists of these sweeps; of two or more, also show what each found and took"
    parser.add_argument("--sweep", nargs="+", default=[], metavar="NAME", help=text)
    text = "group runs by this param, and compare the groups over their seeds"
    parser.add_argument("--group-by", metavar="FIELD", help=text)
    parser.add_argument("--all", action="store_true", help="also show the fields that are equal")
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page with pictures")
    text = "store page and pictures in MLflow, as a run of kind comparison"
    parser.add_argument("--log", action="store_true", help=text)


def run(args: argparse.Namespace) -> Document:
    from experiments.comparison.compare import compare
    from experiments.dashboard.links import run_url
    from experiments.tracking.runs import list_runs, resolve, with_repeats

    store = open_store(args.store)
    found = [run for name in args.sweep for run in list_runs(store, sweep=name)]
    found += [run for word in args.runs for run in resolve(store, word)]
    unique = {run.run_id: run for run in with_repeats(store, found)}
    runs = list(unique.values())
    if len(runs) < 2:
        raise UsageError(f"compare needs two runs or more, but the arguments name {len(runs)}")
    document = compare(store, runs, group_by=args.group_by, show_all=args.all, sweeps=args.sweep)
    if args.html or args.log:
        from experiments.comparison.report import report

        document |= report(store, runs, document, html=args.html, log=args.log)
    if args.log:
        document["comparison_url"] = run_url(store, runs[0].experiment_id, document["comparison_run_id"])
    return document


def show(document: Document, args: argparse.Namespace) -> None:
    from experiments.comparison.text import group, group_columns, robustness_verdicts, verdicts

    sentences = [*verdicts(document), *robustness_verdicts(document), *(f"note: {note}" for note in document["notes"])]
    print_sentences(sentences[:1])
    if document["sweeps"]:
        print_table(_sweeps(document))
    print_table(_runs_as_columns(document) if len(document["runs"]) <= _MOST_COLUMNS else _runs_as_rows(document))
    if not document["differences"]:
        print("nothing that was recorded differs")
    if document["groups"]:
        columns = group_columns(document)
        groups = table(*columns, prose=columns[:1])
        for found in document["groups"]:
            groups.add_row(*group(found))
        print_table(groups)
    if document["robustness"]:
        print_table(_robustness(document))
    print_sentences(sentences[1:])
    if document.get("html"):
        print_lines(f"page       {document['html']}")
    if document.get("comparison_run_id"):
        print_lines(f"logged as  {document['comparison_run_id']}")
    url = document.get("comparison_url")
    more = f", and the comparison's page is {url}" if url else ", and --log stores a page of the comparison in MLflow"
    print_dashboard(document, args, f"these {len(document['runs'])} runs side by side", more)


def _sweeps(document: Document) -> "Table":
    """Returns a table with a row for each sweep: what it found, and what it took."""
    rows = table("sweep", "trials", "epochs", document["sweeps"][0]["metric"], "its own settings", "test accuracy")
    for row in document["sweeps"]:
        estimates = (row if row["mean"] is not None else None, row["baseline"], row["test_accuracy"])
        rows.add_row(showable(row["sweep"]), str(row["trials"]), str(row["epochs"] or ""), *map(_estimate, estimates))
    return rows


def _estimate(found: dict[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return ""
    interval = " [{:.4f}, {:.4f}]".format(*found["ci95"]) if found["ci95"] else ""
    return f"{number(found['mean'])}{interval}"


def _robustness(document: Document) -> "Table":
    """Returns a table of the accuracy of two runs or groups on corrupted images."""
    from experiments.comparison.text import robustness_row

    named = {run["run_id"]: run["run_id"][:8] for run in document["runs"]}
    names = [named.get(each, each) for each in document["robustness"]["between"]]
    first, second = names if max(map(len, names)) <= _LONGEST_NAME else ("first", "second")
    rows = table("images", first, second, "difference")
    for row in document["robustness"]["rows"]:
        rows.add_row(*robustness_row(document, row))
    rows.caption = "accuracy over five strengths, 95 % intervals over images; * distinguishable"
    return rows


def _runs_as_columns(document: Document) -> "Table":
    """Returns a table of a few runs, one column per run."""
    from experiments.comparison.text import cell, field, score

    ids = [run["run_id"] for run in document["runs"]]
    names = [f"{run['run_id'][:8]}\n{showable(run['name'])}" for run in document["runs"]]
    columns = table("", *names, prose=names)
    for row in document["differences"]:
        columns.add_row(field(row), *(cell(row, run_id) for run_id in ids))
    columns.add_section()
    for row in document["metrics"]:
        columns.add_row(row["name"], *(score(row, run_id) for run_id in ids))
    return columns


def _runs_as_rows(document: Document) -> "Table":
    """Returns a table of the best of many runs, one row per run: its score, and the params that differ."""
    from experiments.comparison.text import field, short_cell

    names = {run["run_id"]: run["name"] for run in document["runs"]}
    shown = [row for row in document["differences"] if row["kind"] == "param"][:_MOST_PARAMS]
    rows = table("run", "name", document["metric"], *(row["field"] for row in shown), prose=["name"])
    best = document["ranking"][:_MOST_ROWS]
    for place in best:
        run_id = place["run_id"]
        rows.add_row(
            run_id[:8], showable(names[run_id]), number(place["score"]), *(short_cell(row, run_id) for row in shown)
        )
    also = ", ".join(field(row) for row in document["differences"] if row not in shown)
    runs = f"{len(names) - len(best)} more runs are not shown" if len(names) > len(best) else ""
    rows.caption = "; ".join(filter(None, [runs, also and f"other differences: {also}"])) or None
    return rows
