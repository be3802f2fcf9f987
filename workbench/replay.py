"""`workbench replay`: what a recorded sweep would have found under another pruner or with fewer trials."""

import argparse

from workbench._command import Document, add_store, open_store, print_sentences

HELP = "what a sweep would have found under another pruner or with fewer trials"
FIELDS = (
    "The pruner and the number of trials can be set: --pruner.kind median --pruner.startup_trials 3 --budget.trials 30."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("sweep", metavar="SWEEP", help="the name of a sweep in the store")


def run(args: argparse.Namespace) -> Document:
    from experiments.process.setup import prepare_process
    from experiments.recipe import parse_overrides
    from sweeps.replay import replay

    prepare_process()
    return replay(open_store(args.store), args.sweep, parse_overrides(args.fields)).as_dict()


def show(document: Document, args: argparse.Namespace) -> None:
    from sweeps.replay import sentences

    print_sentences(sentences(document))
