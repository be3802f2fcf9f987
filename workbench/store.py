"""`workbench store`: copies a whole store to another place."""

import argparse

from workbench._command import Document, print_sentences, print_table, table

HELP = "copy a whole store to another folder, to PostgreSQL, or back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "URL: postgresql://USER@HOST/DATABASE; keep a password in PGPASSWORD or ~/.pgpass."
    parser.add_argument("action", choices=["copy"])
    parser.add_argument("source", metavar="FROM", help="the store's folder: artifacts/, mlflow.db, optuna.db")
    parser.add_argument("target", metavar="TO", help="the folder of the new store, which must hold no runs yet")
    for side in ("from", "to"):
        word = side.upper()
        for option, what, file in (("tracking", "runs", "mlflow.db"), ("storage", "studies", "optuna.db")):
            text = f"the PostgreSQL database of {word}'s {what} (default: {file} in {word})"
            parser.add_argument(f"--{side}-{option}", metavar="URL", help=text)
    text = "an MLflow server will serve TO/artifacts (--artifacts-destination): runs refer to their files through it"
    parser.add_argument("--served", action="store_true", help=text)


def run(args: argparse.Namespace) -> Document:
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


def show(document: Document, args: argparse.Namespace) -> None:
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
