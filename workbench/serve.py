"""`workbench serve`: a run's model answers requests over HTTP."""

import argparse
import gc
from pathlib import Path

from workbench._command import RUN_HELP, Document, add_store, add_trust, count, open_store
from workbench._layout import print_lines

HELP = "serve a run's model over HTTP, reachable from this machine only"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    host = "the address to listen on (default: 127.0.0.1); others can reach it only with a token"
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help=host)
    parser.add_argument("--port", type=int, default=5001, metavar="N", help="0: any that is free (default: 5001)")
    token = "a file with the token that requests must have; or set WORKBENCH_TOKEN"
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=token)
    wait = "how long a request may wait for others, to be answered together (default: 2)"
    parser.add_argument("--wait-ms", type=_milliseconds, default=2.0, metavar="MS", help=wait)
    batch = "images that the model takes at a time; 1: each request alone (default: 64)"
    parser.add_argument("--batch", type=count, default=64, metavar="N", help=batch)
    queue = "requests that may wait for their answer; more get status 503 (default: 256)"
    parser.add_argument("--queue", type=count, default=256, metavar="N", help=queue)
    parser.add_argument("--max-mb", type=count, default=16, metavar="N", help="of a request's body (default: 16)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="of the model on the CPU (default: 1)")
    add_trust(parser)


def run(args: argparse.Namespace) -> Document:
    gc.disable()  # a search for garbage among all that is imported takes a quarter of the start
    try:
        return _start(args)
    finally:
        gc.enable()


def _start(args: argparse.Namespace) -> Document:
    from experiments.serving.start import Options, prepare
    from experiments.tracking.trust import require_trust

    store = open_store(args.store)
    require_trust(store, args.trust, lambda: [f"the Python files in the model of {args.run}"])
    options = Options(
        host=args.host,
        port=args.port,
        token_file=args.token_file,
        wait=args.wait_ms / 1000,
        most_images=args.batch,
        open_requests=args.queue,
        body_bytes=args.max_mb * 2**20,
        threads=args.threads,
    )
    args.served = prepare(store, args.run, options)
    args.served.start()
    document: Document = args.served.as_dict()
    return document


def show(document: Document, args: argparse.Namespace) -> None:
    needs = ", with the token" if document["needs_token"] else ""
    print_lines(f"{document['name']} answers at {document['url']}{needs} (Ctrl-C stops it)")


def finish(args: argparse.Namespace) -> None:
    """Answers requests until SIGTERM or Ctrl-C, and then those that are open."""
    args.served.wait()


def _milliseconds(text: str) -> float:
    """Parses a time from 0 to 1000 ms."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1000")
    return value
