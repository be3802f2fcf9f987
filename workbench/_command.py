"""The interface of a command's file, and what several commands share: arguments, the store, tables."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from lightning_modules.errors import WorkbenchError
from lightning_modules.showable import showable
from workbench._layout import new_table, print_fitting, print_lines, print_link, print_prose

if TYPE_CHECKING:
    from rich.table import Table

    from experiments import Store

Document = dict[str, Any]

RUN_HELP = "a run id or its first characters, a run name, latest, SWEEP:champion, SWEEP:best or SWEEP:all"
FIELDS_HELP = (
    "Any field of the recipe can be set: --optimizer.lr 0.01 --data.batch_size 64 --trainer.max_epochs 2. "
    "To list the fields: workbench fields."
)


class Stream:
    """A list in a document whose items are computed while they are printed. `seen` has those that were."""

    def __init__(self, items: Iterator[Document]) -> None:
        self._items = items
        self.seen: list[Document] = []

    def __iter__(self) -> Iterator[Document]:
        while True:
            with redirect_stdout(sys.stderr):  # standard output is only for the result, even if a library prints
                item = next(self._items, None)
            if item is None:
                return
            self.seen.append(item)
            yield item


class Command(Protocol):
    """What a command's file defines.

    It may also define `FIELDS`, a help text on the `--FIELD.PATH VALUE` pairs that the command accepts (as
    `args.fields`), `exit_code(document)`, if that is not always 0, `RECORDS_CODE = True`, if its runs are recorded with
    the project's code, `more_help()`, a text at the end of `--help` that is computed only for that, and `finish(args)`,
    what is left to do once the document is printed.
    """

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the command's own arguments."""

    def run(self, args: argparse.Namespace) -> Document:
        """Does the work, and returns the `--json` document."""

    def show(self, document: Document, args: argparse.Namespace) -> None:
        """Prints the document for people."""


class UsageError(WorkbenchError):
    """A command line that argparse refuses."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message, "see workbench --help", "command line")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors. `more_help` returns text for the end of `--help`."""

    more_help: Callable[[], str] | None = None

    def format_help(self) -> str:
        if self.more_help is not None:
            self.epilog = " ".join(filter(None, [self.epilog, self.more_help()]))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", default="mlruns", metavar="DIR", help="where runs are kept (default: mlruns)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    text = "run the code of a store that you did not make; remembered"
    parser.add_argument("--trust", action="store_true", help=text)


def add_code_option(parser: argparse.ArgumentParser, what: str) -> None:
    text = f"go on with today's code, although files changed since the {what} began"
    parser.add_argument("--code", choices=["today"], help=text)


def count(text: str) -> int:
    """Parses an argument that is a whole number of 1 or more."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{showable(text)!r} is not a whole number of 1 or more")
    return int(text)


def open_store(folder: str) -> "Store":
    """Returns the store, after everything in its spool was sent to the tracking server."""
    from experiments import Store

    store = Store.open(folder)
    if any(store.spool.glob("*.jsonl")):
        from experiments.tracking.spool import deliver, tell_waiting

        with store.telling_failures():
            deliver(store)
        tell_waiting(store)
    return store


def table(*columns: str, prose: Collection[str] = ()) -> "Table":
    """Returns an empty table. The cells of columns in `prose` may be wrapped between words, all others stay whole."""
    return new_table(columns, prose)


def print_table(shown: "Table") -> None:
    print_fitting(shown)


def print_sentences(sentences: Iterable[str]) -> None:
    """Prints sentences, one a line. On a terminal, they are wrapped between words."""
    for sentence in sentences:
        print_prose(sentence)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def print_dashboard(document: Document, args: argparse.Namespace, page: str, more: str = "") -> None:
    """Prints the link to a page, and the command that serves it; a tracking server serves its own.

    `more`: what else one can do if the link is too long to be shown.
    """
    url = document["dashboard_url"]
    too_long = f"the dashboard's link has {len(url):,} characters: --json prints it{more}"
    print_link("dashboard", url, page, too_long)
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        print_next("start it", args, ["ui"])


def print_next(label: str, args: argparse.Namespace, *commands: Sequence[str]) -> None:
    """Prints commands for the store in use, one a line. Words in capitals are for the user to replace."""
    from experiments.tracking.store import command_on

    for words in commands:
        print_lines(f"{label:<11}{command_on(args.store, *words)}")
        label = ""
