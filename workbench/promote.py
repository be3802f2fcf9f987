"""`workbench promote`: makes a run's model the champion, if it deserves to be."""

import argparse

from workbench._command import RUN_HELP, Document, add_store, open_store, print_dashboard, print_next, print_sentences
from workbench._layout import print_lines

HELP = "make a run's model the champion, if it is not worse than the champion that there is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; of a champion, the first seed")
    text = "the alias that is to point at the model (default: champion)"
    parser.add_argument("--alias", default="champion", metavar="NAME", help=text)
    text = "the registered model (default: the name of the run's sweep, or else of its experiment)"
    parser.add_argument("--name", metavar="NAME", help=text)
    text = "by how much test accuracy may be lower, at the lower end of the interval (default: 0.005)"
    parser.add_argument("--margin", type=_share, default=0.005, metavar="X", help=text)
    parser.add_argument("--force", action="store_true", help="promote it whatever the test says")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of images, from 0 to 1")
    return value


def run(args: argparse.Namespace) -> Document:
    from experiments.code.scratch import scratch_folder
    from experiments.evaluation.promotion import Place, default_name, promote
    from experiments.names import check_name
    from experiments.results.artifacts import Artifacts
    from experiments.tracking.registry import as_registered_name, check_alias
    from experiments.tracking.runs import resolve_model

    store = open_store(args.store)
    check_alias("--alias", args.alias)
    if args.name is not None:
        check_name("--name", args.name)
    candidate = resolve_model(store, args.run)
    name = as_registered_name(args.name) if args.name else default_name(store, candidate)
    with scratch_folder(store.folder / "scratch") as scratch:
        place = Place(name=name, alias=args.alias)
        return promote(Artifacts(store, scratch), candidate, place, margin=args.margin, is_forced=args.force)


def exit_code(document: Document) -> int:
    """A run that was not promoted is a verdict like `different`: 1."""
    return 0 if document["promoted"] else 1


def show(document: Document, args: argparse.Namespace) -> None:
    verdict = "promoted" if document["promoted"] else "not promoted"
    reason = document["reason"]
    print_sentences([reason if reason.startswith("promoted") else f"{verdict}: {reason}"])
    if document["version"]:
        print_lines(f"model      models:/{document['name']}@{document['alias']}, version {document['version']}")
        print_dashboard(document, args, "this version")
    else:
        print_next("override", args, ["promote", args.run, "--force"])
