"""`workbench ui`: serves MLflow's dashboard of the store."""

import argparse
import sys

from workbench._command import Document, add_store, open_store

HELP = "open MLflow's dashboard of this store, reachable from this machine only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--port", type=int, default=5000, metavar="N", help="the server's port (default: 5000)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")


def run(args: argparse.Namespace) -> Document:
    from experiments.dashboard.server import serve

    serve(open_store(args.store), args.port, browser=sys.stderr.isatty() and not args.no_browser)
    return {}


def show(document: Document, args: argparse.Namespace) -> None:
    """Prints nothing: the server has ended."""
