"""`workbench sign`: signs a run's record with the user's SSH key."""

import argparse

from workbench._command import RUN_HELP, Document, add_store, open_store
from workbench._layout import print_lines

HELP = "sign a run's record with your SSH key, so that nobody can change it unnoticed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--key", metavar="FILE", help="the private key (default: git's user.signingKey, or ~/.ssh/id_…)"
    )


def run(args: argparse.Namespace) -> Document:
    from experiments.provenance.signature import find_key, sign_run
    from experiments.tracking.runs import resolve

    store = open_store(args.store)
    key = find_key(args.key)
    return {"signed": [sign_run(store, found.run_id, key) for found in resolve(store, args.run)]}


def show(document: Document, args: argparse.Namespace) -> None:
    for signed in document["signed"]:
        print_lines(f"{signed['run_id']}  signed by {signed['signed_by']}")
