"""`workbench store`: copies a whole store to another place, or upgrades its databases."""

import argparse

from workbench._command import Document, UsageError, print_sentences, print_table, table

HELP = "copy a whole store to another folder, to PostgreSQL, or back; upgrade the databases of an older one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "URL: postgresql://USER@HOST/DATABASE; keep a password in PGPASSWORD or ~/.pgpass."
    text = "copy FROM to TO, or upgrade the databases of --store to the installed MLflow and Optuna"
    parser.add_argument("action", choices=["copy", "upgrade"], help=text)
    text = "the store's folder: artifacts/, mlflow.db, optuna.db"
    parser.add_argument("source", nargs="?", metavar="FROM", help=text)
    text = "the folder of the new store, which must hold no runs yet"
    parser.add_argument("target", nargs="?", metavar="TO", help=text)
    parser.add_argument("--store", metavar="DIR", help="what upgrade upgrades (default: mlruns); it keeps a copy")
    for side in ("from", "to"):
        word = side.upper()
        for option, what, file in (("tracking", "runs", "mlflow.db"), ("storage", "studies", "optuna.db")):
            text = f"the PostgreSQL database of {word}'s {what} (default: {file} in {word})"
            parser.add_argument(f"--{side}-{option}", metavar="URL", help=text)
    text = "an MLflow server will serve TO/artifacts (--artifacts-destination): runs refer to their files through it"
    parser.add_argument("--served", action="store_true", help=text)


def run(args: argparse.Namespace) -> Document:
    if args.action == "upgrade":
        return _upgrade(args)
    if args.source is None or args.target is None or args.store is not None:
        raise UsageError("store copy needs the folders FROM and TO, and no --store")
    from pathlib import Path

    from experiments import Store
    from experiments.tracking.spool import tell_waiting
    from sweeps.store_copy.copy import copy_store
    from sweeps.store_copy.databases import StorePlace

    source = StorePlace(Path(args.source).expanduser().absolute(), args.from_tracking, args.from_storage)
    target = StorePlace(Path(args.target).expanduser().absolute(), args.to_tracking, args.to_storage)
    copied = copy_store(source, target, served=args.served)
    tell_waiting(Store(source.folder, ""))  # warns if runs wait in the spool, which is not copied
    return copied.as_dict()


def _upgrade(args: argparse.Namespace) -> Document:
    if args.source is not None:
        raise UsageError("store upgrade takes no FROM and TO: name the store's folder with --store DIR")
    from experiments.tracking.store import DEFAULT_FOLDER
    from sweeps.store_copy.upgrade import upgrade_store

    return {"upgraded": [vars(each) for each in upgrade_store(args.store or DEFAULT_FOLDER)]}


def show(document: Document, args: argparse.Namespace) -> None:
    if args.action == "upgrade":
        _show_upgraded(document)
        return
    copied = table("database", "table", "rows", "SHA-256")
    for database, tables in document["databases"].items():
        for content in tables:
            if content["rows"]:
                copied.add_row(database, content["table"], f"{content['rows']:,}", content["sha256"][:12])
    artifacts = document["artifacts"]
    copied.add_row("", "artifacts", f"{artifacts['files']:,} files", artifacts["sha256"][:12])
    print_table(copied)
    print(f"copied and verified: every row, and {artifacts['bytes'] / 1e6:,.1f} MB of artifacts")
    if elsewhere := document["elsewhere"]:
        where = "not in FROM, and not where the runs say"
        print_sentences([f"note: the artifacts of {elsewhere} runs are {where}; they were not copied"])


def _show_upgraded(document: Document) -> None:
    for each in document["upgraded"]:
        print(f"upgraded   {each['database']}  ({each['before']} → {each['after']})")
        print(f"kept       {each['kept']}, as it was; delete it once you no longer need it")
    if not document["upgraded"]:
        print("nothing to upgrade: the databases are of the installed MLflow and Optuna")
