"""The command line. Declares the commands; what a command needs is imported only once it runs."""

import argparse
import atexit
import gc
import json
import math
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.table import Table

    from experiments import Store

Document = dict[str, Any]
RUN_HELP = "a run id, the start of one, a run name, latest, SWEEP:champion, SWEEP:best or SWEEP:all"
STORE_HELP = "URL: postgresql://USER@HOST/DATABASE; a password is best kept in PGPASSWORD or ~/.pgpass."
SIDE_BY_SIDE, MOST_ROWS, MOST_COLUMNS = 4, 20, 8  # of a comparison on the terminal: runs, runs, params


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


class _UsageError(Exception):
    """A command line that argparse refuses; it carries the same fields as an InputError."""

    field, value, remedy, exit_code = "command line", None, "see workbench --help", 2

    def __init__(self, message: str) -> None:
        super().__init__(f"{self.field}: {message}; {self.remedy}")
        self.message = message


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    # Python looks for garbage among all that was ever imported, while torch loads and once more at the exit: half the
    # time of a short command.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        args = _parse(words)
        with redirect_stdout(sys.stderr):  # whatever a library prints: standard output is the result's alone
            document = args.handler(args)
        if as_json:
            print(json.dumps(_finite(document), indent=2))
        elif args.show:
            args.show(document)
        return int(args.exit_code)
    except BrokenPipeError:  # the reader of our output, such as head, has enough
        sys.stderr.close()
        return 0
    except Exception as error:
        return _report(error, as_json)
    except SystemExit:
        raise
    except BaseException:  # KeyboardInterrupt, or the Interrupted that it becomes while a run is open
        print("interrupted", file=sys.stderr)
        return 130


def _report(error: Exception, as_json: bool) -> int:
    """An error that carries its exit code, such as bad input, in one line; any other with its traceback."""
    message = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    if as_json:
        names = ("field", "value", "remedy")
        fields = {name: getattr(error, name, None) for name in names} | {"message": message}
        print(json.dumps({"error": fields}, indent=2, default=str))
    if not hasattr(error, "exit_code"):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
    return int(getattr(error, "exit_code", 1))


def _parse(words: list[str]) -> argparse.Namespace:
    parser, commands = _parser()
    command = next((word for word in words if not word.startswith("-")), "")
    overrides: list[str] = []
    if command in {"train", "sweep", "reproduce", "data"}:
        words, overrides = _split_overrides(words, commands[command])
    args = parser.parse_args(words)
    args.overrides = overrides
    return args


def _split_overrides(words: list[str], command: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """The words that the command's parser knows, and the pairs --FIELD.PATH VALUE that it does not."""
    options = command._option_string_actions
    known: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word.partition("=")[0] in options:
            known.append(word)
            if word in options and options[word].nargs != 0 and rest and not rest[0].startswith("--"):
                known.append(rest.pop(0))
        else:
            overrides.append(word)
            if "=" not in word and rest and not rest[0].startswith("--"):
                overrides.append(rest.pop(0))
    return known, overrides


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser, and those of its commands by their names."""
    parser = _Parser(prog="workbench", description="Run sweeps, compare runs, reproduce experiments.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, handler: Any, show: Any, text: str, epilog: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=epilog, allow_abbrev=False)
        command.add_argument("--json", action="store_true", help="print one JSON document, everything else on stderr")
        if name != "store":  # which names two
            text = "where runs are kept (default: mlruns)"
            command.add_argument("--store", default="mlruns", metavar="DIR", help=text)
        command.set_defaults(handler=handler, show=show, exit_code=0)
        return command

    fields = "Any field of the recipe can be set: --optimizer.lr 0.01 --data.batch_size 64 --trainer.max_epochs 2"
    train = add("train", _train, _show_train, "train, validate and test one recipe as a tracked run", fields)
    train.add_argument("recipe", metavar="RECIPE", help="the name of a recipe, or the path of a YAML file")
    train.add_argument("--name", metavar="TEXT", help="the run's name (default: the recipe's)")
    train.add_argument("--resume", metavar="RUN", help="go on with this run, which was interrupted, failed or died")

    sweep = add("sweep", _sweep, _show_sweep, "search a recipe's space, up to its total target; again: go on", fields)
    sweep.add_argument("recipe", metavar="RECIPE", help="the name of a sweep recipe, or the path of a YAML file")
    sweep.add_argument("--name", metavar="TEXT", help="the sweep's name (default: the recipe's)")
    sweep.add_argument("--workers", type=_count, metavar="N", help="trials at a time (default: one a core)")
    sweep.add_argument("--engine", choices=["local", "ray"], default="local", help="where trials run (default: local)")
    sweep.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster to join (default: one of its own)")

    runs = add("runs", _runs, _show_runs, "list runs, newest first")
    runs.add_argument("--sweep", metavar="NAME", help="only the trials and finalists of this sweep")
    kinds = ["train", "sweep", "trial", "finalist", "reproduction", "comparison"]
    runs.add_argument("--kind", choices=kinds, help="only runs of this kind")
    outcomes = ["running", "finished", "pruned", "failed", "interrupted", "died"]
    runs.add_argument("--status", choices=outcomes, help="only runs that ended so, or still run")
    runs.add_argument("--since", metavar="TIME", help="only runs begun since: 2026-11-24, 12h, 7d")
    runs.add_argument("--filter", default="", metavar="EXPR", help="MLflow's filter: metrics.`val/accuracy` > 0.9")
    runs.add_argument("--sort", metavar="METRIC", help="best first, such as val/accuracy (default: newest first)")
    runs.add_argument("--columns", metavar="A,B", help="metrics and params to show (default: val and test accuracy)")
    runs.add_argument("--limit", type=_count, metavar="N", help="at most this many (default, in a table: 100)")
    runs.add_argument("--csv", action="store_true", help="print every param and metric as CSV")

    compare = add("compare", _compare, _show_compare, "what differs between runs, and how their metrics differ")
    compare.add_argument("runs", nargs="*", metavar="RUN", help=RUN_HELP)
    compare.add_argument("--sweep", metavar="NAME", help="all trials and finalists of this sweep")
    compare.add_argument(
        "--group-by", metavar="FIELD", help="over seeds: runs that share this param's value are a group"
    )
    compare.add_argument("--all", action="store_true", help="show what is equal, too")
    compare.add_argument(
        "--html", metavar="FILE", help="write a page with pictures, which needs nothing from elsewhere"
    )
    compare.add_argument(
        "--log", action="store_true", help="keep page and pictures in MLflow, as a run of kind comparison"
    )

    reproduce = add(
        "reproduce",
        _reproduce,
        _show_reproduce,
        "run past runs again, and tell whether the results are the same",
        fields,
    )
    reproduce.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    reproduce.add_argument("--code", choices=["recorded", "today"], default="recorded", help="default: recorded")
    reproduce.add_argument("--env", choices=["recorded", "today"], default="today", help="packages (default: today's)")
    reproduce.add_argument("--epochs", type=_count, metavar="K", help="only the first K epochs")
    reproduce.add_argument("--rtol", type=float, default=0.05, metavar="X", help="of losses, relative (default: 0.05)")
    reproduce.add_argument("--atol", type=float, default=0.01, metavar="X", help="of accuracies (default: 0.01)")
    reproduce.add_argument("--seeds", type=_count, default=0, metavar="N", help="hold it against N fresh seeds' spread")
    reproduce.add_argument("--explain", action="store_true", help="test suspects one at a time")
    reproduce.add_argument("--trust", action="store_true", help="run code that comes from a store elsewhere")

    ui = add("ui", _ui, None, "open MLflow's dashboard on this store, for this machine alone")
    ui.add_argument("--port", type=int, default=5000, metavar="N", help="default: 5000")
    ui.add_argument("--no-browser", action="store_true", help="do not open the browser")

    fields = "check takes fields of a recipe's data: --data.labels_path FILE --data.image_size 64 --data.channels 1"
    data = add("data", _data, _show_data, "data sets: list them, download one, or see what is wrong with one", fields)
    data.add_argument("action", choices=["list", "fetch", "check"])
    data.add_argument("source", nargs="?", metavar="NAME-OR-PATH", help="which one; check: or your own file or folder")
    data.add_argument("--root", metavar="DIR", help="where downloads live (default: WORKBENCH_DATA, else a cache)")

    store = add(
        "store", _store, _show_store, "copy a whole store: to another folder, to PostgreSQL, and back", STORE_HELP
    )
    store.add_argument("action", choices=["copy"])
    store.add_argument("source", metavar="FROM", help="the store's folder: artifacts/, mlflow.db, optuna.db")
    store.add_argument("target", metavar="TO", help="the folder of the new store, which holds no runs yet")
    for side in ("from", "to"):
        word = side.upper()
        for option, what, file in (("tracking", "runs", "mlflow.db"), ("storage", "studies", "optuna.db")):
            text = f"the PostgreSQL database of {word}'s {what} (default: {file} in {word})"
            store.add_argument(f"--{side}-{option}", metavar="URL", help=text)
    text = "TO/artifacts is for an MLflow server (--artifacts-destination): runs name their files as it does"
    store.add_argument("--served", action="store_true", help=text)
    return parser, commands.choices


def _open(folder: str) -> "Store":
    """The store, once its tracking server has what waited for it in the spool."""
    from experiments import Store

    store = Store.open(folder)
    if any(store.spool.glob("*.jsonl")):
        from experiments.spool import deliver, tell_waiting

        with store.telling_failures():
            deliver(store)
        tell_waiting(store)
    return store


def _train(args: argparse.Namespace) -> Document:
    from pathlib import Path

    from experiments import load_config, run
    from experiments.progress import EpochProgress
    from experiments.recipe import parse_overrides
    from experiments.runs import resolve_one

    config = load_config(args.recipe, parse_overrides(args.overrides))
    name = args.name or Path(args.recipe).stem
    store = _open(args.store)
    resume = resolve_one(store, args.resume).run_id if args.resume else None
    with EpochProgress() as progress:
        result = run(config, name=name, store=store, observers=[progress], callbacks=progress.callbacks, resume=resume)
    document = result.as_dict()
    del document["error"]
    if result.error:
        print(f"error: {result.error}", file=sys.stderr)
        document["error"] = {"field": None, "value": None, "message": result.error, "remedy": None}
        args.exit_code = 1
    return document


def _show_train(document: Document) -> None:
    table = _table("metric", "value")
    for name, value in sorted(document["metrics"].items()):
        table.add_row(name, f"{value:.4f}")
    _print(table)
    print(f"run        {document['run_id']}  ({document['name']}, {document['outcome']})")
    print(f"artifacts  {document['artifact_uri']}")
    print(f"dashboard  {document['dashboard_url']}  (start it with: workbench ui)")


def _sweep(args: argparse.Namespace) -> Document:
    from experiments.recipe import parse_overrides
    from sweeps import load_sweep, run
    from sweeps.progress import SweepProgress

    sweep = load_sweep(args.recipe, parse_overrides(args.overrides), name=args.name)
    with SweepProgress(sweep) as progress:
        result = run(
            sweep,
            store=_open(args.store),
            workers=args.workers,
            engine=args.engine,
            address=args.address,
            progress=progress,
        )
    args.exit_code = 0 if result.champion else 1
    return result.as_dict()


def _show_sweep(document: Document) -> None:
    from sweeps.leaderboard import as_text, doubts, headline, on_test, ranked
    from sweeps.space import describe

    table = _table("rank", "trial", document["metric"], "outcome", "params", "run")
    for rank, trial in enumerate(ranked(document), start=1):
        place = str(rank) if trial["outcome"] == "finished" else ""
        value = _number(trial["value"])
        words = (place, str(trial["number"]), value, trial["outcome"], describe(trial["params"]))
        table.add_row(*words, (trial["run_id"] or "")[:8])
    _print(table)
    for finalist in document["finalists"]:
        seeds = len(finalist["values"])
        print(f"finalist   trial {finalist['number']}: {document['metric']} {as_text(finalist)} over {seeds} seed(s)")
    if champion := document["champion"]:
        print(f"champion   trial {champion['number']}: {on_test(document)}")
        print(f"model      {champion['model']}")
        print("\n".join(doubts(document)))
    else:
        print(headline(document))
    print(f"trials     {document['trials_url']}")
    print(f"dashboard  {document['dashboard_url']}  (start it with: workbench ui)")


def _runs(args: argparse.Namespace) -> Document:
    from datetime import datetime

    from experiments.runs import list_runs, parse_since

    since = parse_since(args.since, datetime.now()) if args.since else None
    shown_at_once = None if args.json or args.csv or args.sweep else 100
    limit = args.limit or shown_at_once
    options = {"sweep": args.sweep, "kind": args.kind, "status": args.status, "since": since, "sort": args.sort}
    found = list_runs(_open(args.store), filter_string=args.filter, limit=limit, **options)
    if args.csv:
        args.show = _show_runs_csv
    if not args.limit and len(found) == shown_at_once:
        print(f"the first {shown_at_once} runs; --limit N shows more, --filter others", file=sys.stderr)
    return {"runs": [run.as_dict() for run in found], "columns": args.columns and args.columns.split(",")}


def _show_runs(document: Document) -> None:
    from datetime import datetime

    names = document["columns"] or ["val/accuracy", "test/accuracy"]
    table = _table("run", "name", "kind", "outcome", "started", *names)
    for run in document["runs"]:
        started = datetime.fromtimestamp(run["start_time"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
        cells = [_number(run["metrics"][n]) if n in run["metrics"] else run["params"].get(n, "") for n in names]
        table.add_row(run["run_id"][:8], run["name"], run["kind"], run["outcome"] or run["status"], started, *cells)
    _print(table)


def _show_runs_csv(document: Document) -> None:
    import csv

    runs = document["runs"]
    own = ["run_id", "name", "kind", "status", "outcome", "start_time"]
    names = document["columns"] or sorted({name for run in runs for name in [*run["params"], *run["metrics"]]})
    writer = csv.DictWriter(sys.stdout, [*own, *names], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(run["params"] | run["metrics"] | {name: run[name] for name in own} for run in runs)


def _compare(args: argparse.Namespace) -> Document:
    from experiments.compare import compare
    from experiments.runs import list_runs, resolve

    store = _open(args.store)
    found = list_runs(store, sweep=args.sweep) if args.sweep else []
    unique = {run.run_id: run for run in [*found, *(run for word in args.runs for run in resolve(store, word))]}
    runs = list(unique.values())
    if len(runs) < 2:
        raise _UsageError(f"compare needs two runs or more, and these words name {len(runs)}")
    document = compare(store, runs, group_by=args.group_by, show_all=args.all)
    if args.html or args.log:
        from experiments.comparison_report import report

        document |= report(store, runs, document, html=args.html, log=args.log)
    return document


def _show_compare(document: Document) -> None:
    from experiments.comparison_text import GROUP_COLUMNS, group, verdicts

    _print(_side_by_side(document) if len(document["runs"]) <= SIDE_BY_SIDE else _one_below_the_other(document))
    if not document["differences"]:
        print("nothing that is recorded differs")
    if document["groups"]:
        table = _table(*GROUP_COLUMNS)
        for found in document["groups"]:
            table.add_row(*group(found))
        _print(table)
    print("\n".join([*verdicts(document), *(f"note: {note}" for note in document["notes"])]))
    if document.get("html"):
        print(f"page       {document['html']}")
    if document.get("comparison_run_id"):
        print(f"logged as  {document['comparison_run_id']}")
    print(f"dashboard  {document['dashboard_url']}  (start it with: workbench ui)")


def _side_by_side(document: Document) -> "Table":
    """A few runs, a column each."""
    from experiments.comparison_text import cell, field, score

    ids = [run["run_id"] for run in document["runs"]]
    table = _table("", *(f"{run['run_id'][:8]}\n{run['name']}" for run in document["runs"]))
    for row in document["differences"]:
        table.add_row(field(row), *(cell(row, run_id) for run_id in ids))
    table.add_section()
    for row in document["metrics"]:
        table.add_row(row["name"], *(score(row, run_id) for run_id in ids))
    return table


def _one_below_the_other(document: Document) -> "Table":
    """Many runs, a row each: the best ones, with the params that differ and the accuracy."""
    from experiments.comparison_text import field, short_cell

    names = {run["run_id"]: run["name"] for run in document["runs"]}
    shown = [row for row in document["differences"] if row["kind"] == "param"][:MOST_COLUMNS]
    table = _table("run", "name", document["metric"], *(row["field"] for row in shown))
    best = document["ranking"][:MOST_ROWS]
    for place in best:
        run_id = place["run_id"]
        table.add_row(run_id[:8], names[run_id], _number(place["score"]), *(short_cell(row, run_id) for row in shown))
    also = ", ".join(field(row) for row in document["differences"] if row not in shown)
    runs = f"{len(names) - len(best)} more runs are not shown" if len(names) > len(best) else ""
    table.caption = "; ".join(filter(None, [runs, also and f"also differs: {also}"])) or None
    return table


def _reproduce(args: argparse.Namespace) -> Document:
    from experiments.recipe import parse_overrides
    from experiments.reproduce import Settings, reproduce
    from experiments.runs import resolve

    store = _open(args.store)
    names = ("code", "env", "epochs", "rtol", "atol", "seeds", "explain")
    settings = Settings(overrides=parse_overrides(args.overrides), **{name: getattr(args, name) for name in names})
    if not (store.is_local or args.trust):
        _ask_for_trust(store.tracking_uri)
    run_ids = dict.fromkeys(run.run_id for word in args.runs for run in resolve(store, word))
    results = [reproduce(store, run_id, settings).as_dict() for run_id in run_ids]
    args.exit_code = int(any(result["verdict"] in {"different", "cannot_run"} for result in results))
    return {"results": results}


def _ask_for_trust(tracking_uri: str) -> None:
    """A recorded patch and network are code: from a store elsewhere they run only if the user says so."""
    from experiments.redaction import without_credentials
    from lightning_modules import InputError

    where = without_credentials(tracking_uri)
    if sys.stdin.isatty():
        print(f"Runs from {where} hold code. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return
    raise InputError("--trust", where, "runs from a store elsewhere hold code of its users", "add --trust to run it")


def _show_reproduce(document: Document) -> None:
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
            print(f"  {tested['suspect']}: {'makes it equal' if tested['restores'] else 'does not'}")
        for line in result["metrics"]:
            print(f"  {line['name']}: {_number(line['recorded'])}, now {_number(line['reproduced'])}")
        print(f"  re-run {result['reproduction_run_id']}")


def _ui(args: argparse.Namespace) -> None:
    from experiments.dashboard import serve

    serve(_open(args.store), args.port, browser=sys.stderr.isatty() and not args.no_browser)


def _data(args: argparse.Namespace) -> Document:
    from lightning_modules.datasets import Location, all_sources, find_source
    from lightning_modules.errors import InputError

    if args.overrides and args.action != "check":
        raise _UsageError(f"unrecognized arguments: {' '.join(args.overrides)}")
    if args.action == "list":
        return {"sources": {name: source.summary for name, source in all_sources().items()}}
    if args.source is None:
        raise InputError("NAME", None, f"{args.action} needs the name of a data set", "see: workbench data list")
    if args.action == "check":
        from experiments.data_report import check
        from experiments.recipe import parse_overrides

        root = {} if args.root is None else {"data.root": args.root}
        return check(args.source, root | parse_overrides(args.overrides))
    fetch = find_source(args.source).fetch
    if fetch is None:
        raise InputError("NAME", args.source, "is nothing to download", "see: workbench data list")
    return {"source": args.source, "folder": str(fetch(Location(root=args.root)))}


def _show_data(document: Document) -> None:
    if "folder" in document:
        print(f"{document['source']} is complete in {document['folder']}")
    elif "findings" in document:
        _show_findings(document)
    else:
        table = _table("data.source", "what it is")
        for name, summary in document["sources"].items():
            table.add_row(name, summary)
        _print(table)


def _show_findings(document: Document) -> None:
    table = _table("split", "images", "height × width × channels", "type", "images a class")
    for split, told in document["splits"].items():
        counts = told["classes"].values()
        size = " × ".join(map(str, told["shape"]))
        table.add_row(split, str(told["count"]), size, told["dtype"], f"{min(counts)} to {max(counts)}")
    _print(table)
    table = _table("kind", "split", "count", "what", "for example")
    for finding in document["findings"]:
        examples = "\n".join(_example(example) for example in finding["examples"][:5])
        table.add_row(finding["kind"], finding["split"], str(finding["count"]), finding["message"], examples)
    _print(table) if document["findings"] else print("nothing found")
    print(f"{document['path']}  SHA-256 {document['sha256']}")


def _example(example: Document) -> str:
    """`12 cat/a.png (cat) = test 7 (dog)`"""
    words = [str(example[key]) for key in ("split", "index", "file") if key in example]
    words += [f"({example['class']})"] if "class" in example else []
    words += [example["what"]] if "what" in example else []
    words += ["=", _example(example["same_as"])] if "same_as" in example else []
    return " ".join(words)


def _store(args: argparse.Namespace) -> Document:
    from pathlib import Path

    from experiments import Store
    from experiments.spool import tell_waiting
    from sweeps.databases import Place
    from sweeps.store_copy import copy_store

    source = Place(Path(args.source).expanduser().absolute(), args.from_tracking, args.from_storage)
    target = Place(Path(args.target).expanduser().absolute(), args.to_tracking, args.to_storage)
    copied = copy_store(source, target, served=args.served)
    tell_waiting(Store(source.folder, ""))  # in its spool, which stays there
    return copied.as_dict()


def _show_store(document: Document) -> None:
    table = _table("database", "table", "rows", "SHA-256")
    for database, tables in document["databases"].items():
        for content in tables:
            if content["rows"]:
                table.add_row(database, content["table"], f"{content['rows']:,}", content["sha256"][:12])
    artifacts = document["artifacts"]
    table.add_row("", "artifacts", f"{artifacts['files']:,} files", artifacts["sha256"][:12])
    _print(table)
    print(
        f"read again in their new place, and the same: every row, and {artifacts['bytes'] / 1e6:,.1f} MB of artifacts"
    )
    if elsewhere := document["elsewhere"]:
        print(f"note: {elsewhere} runs keep their artifacts outside FROM; these were not copied")


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _finite(document: Any) -> Any:
    """NaN and infinities, which JSON does not have, as null."""
    if isinstance(document, dict):
        return {name: _finite(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def _print(table: "Table") -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 400  # a file or a pipe has no edge to cut a table at
    Console(markup=False, highlight=False, width=width).print(table)  # a name like [/x] is a name, not markup


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
